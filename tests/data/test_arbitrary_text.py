"""Preparation of arbitrary text: no character is lost, and the prepared data keep their invariants."""

import csv
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.cleaning import paragraphs, split_document
from pipeline.data.dataset import PreparedData
from pipeline.data.encoding import encode
from pipeline.data.formats import FORMATS
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.segmentation import covers, own_sentences
from pipeline.data.tokenizer import train_wordpiece
from pipeline.runtime.errors import UserError
from tests.data.own_files import (
    DOCUMENTS,
    PLAIN,
    SCRIPTS,
    decoded,
    parquet_file,
    prepare_file,
    texts,
    write,
)

KING = "the old king saw the river ."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "size", "more"),
    [("ab", 10**7, set()), (f"{KING} ", 10**6, {KING, f"{KING} "})],
    ids=["a word", "sentences"],
)
def test_a_line_of_megabytes_is_prepared(tmp_path: Path, unit: str, size: int, more: set[str]):
    own = write(tmp_path, ".txt", PLAIN + b"\n" + (unit * (size // len(unit))).encode())
    assert set(texts(prepare_file(own, tmp_path / "data"))) == {*DOCUMENTS} | more


@pytest.mark.parametrize(("length", "learnt"), [(100, True), (101, False)])
def test_a_word_too_long_to_be_cut_is_not_trained_on(length: int, learnt: bool):
    word = ("xz" * length)[:length]
    tokenizer = train_wordpiece([*DOCUMENTS, word] * 9, 150, lower_case=False)
    assert any("xz" in token for token in tokenizer.tokenizer.get_vocab()) == learnt
    assert (tokenizer.unk_id not in tokenizer.encode([word])[0]) == learnt


def test_combining_and_joining_characters_stay_when_case_does(tmp_path: Path):
    own = write(tmp_path, ".txt", "\n".join([*SCRIPTS.values()] * 10).encode())
    data = prepare_file(own, tmp_path / "data", vocabulary_size=2000)
    assert set(decoded(data)) == set(SCRIPTS.values())
    assert not any(data.tokenizer.unk_id in ids for part in data.splits.values() for ids in part["input_ids"])


def test_a_sentence_that_spells_a_special_token_is_left_out(tmp_path: Path):
    odd = [f"the old king saw {token} and left" for token in ("[PAD]", "[CLS]", "[SEP]")]
    data = prepare_file(write(tmp_path, ".txt", "\n".join([*DOCUMENTS, *odd]).encode()), tmp_path / "data")
    assert texts(data) == sorted(DOCUMENTS)


WORDS = st.sampled_from(
    ["the", "king", "saw", "naïve", "עיר", "می‌خواهد", "🎉", "👨‍👩‍👧", "e\u0301", "3.5", "Dr.", "end.", "[SEP]", "<unk>"]
)
BREAKS = st.sampled_from(
    [" ", " ", " ", " ", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"]
)
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
DOCUMENT = st.lists(st.one_of(WORDS, WORDS, ANY, BREAKS), min_size=4, max_size=24).map(" ".join)

CLEANED = st.sampled_from(["none", "none", "paper"])


def write_documents(folder: Path, suffix: str, documents: list[str]) -> tuple[Path, list[str]]:
    """Write documents to a file of this format; return its path and the documents that it holds."""
    path = folder / f"own{suffix}"
    if suffix == ".txt":
        path.write_bytes("\n".join(documents).encode())
        return path, re.split(r"\r\n|\r|\n", "\n".join(documents))
    if suffix in (".csv", ".tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows(
                [["review", "n"], *([document, 0] for document in documents)]
            )
    elif suffix == ".jsonl":
        path.write_bytes(b"".join(json.dumps({"review": document}).encode() + b"\n" for document in documents))
    elif suffix == ".json":
        path.write_text(json.dumps([{"review": document} for document in documents]), encoding="utf-8")
    elif suffix == ".parquet":
        parquet_file(path, pa.array(documents, pa.string()))
    else:
        raise ValueError(f"write documents in {suffix} here")
    return path, documents


def without_space(text: str) -> str:
    return "".join(text.split())


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(DOCUMENT, max_size=16),
    st.sampled_from([*FORMATS]),
    st.integers(2, 4),
    CLEANED,
    st.sampled_from(["bpe", "wordpiece"]),
)
def test_arbitrary_documents_are_prepared_whole_or_refused(
    documents: list[str], suffix: str, more_than: int, clean: str, tokenizer: str
):
    with tempfile.TemporaryDirectory() as folder:
        own, held = write_documents(Path(folder), suffix, documents)
        data_dir = Path(folder) / "data"
        limits = {"more_than": more_than, "fewer_than": 12, "clean": clean, "tokenizer": tokenizer}
        try:
            data = prepare_file(own, data_dir, accept_loss=True, vocabulary_size=400, **limits)
        except UserError as error:
            assert str(own) in str(error)
            assert not os.listdir(data_dir)
            return
        check_invariants(data, held, PreparationSettings(vocabulary_size=400, own=True, **limits))


def check_invariants(data: PreparedData, documents: list[str], limits: PreparationSettings) -> None:
    """Check the invariants of every prepared dataset."""
    tokenizer = data.tokenizer
    assert tokenizer.lossless == (limits.tokenizer == "bpe")
    reserved = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
    for name, part in data.splits.items():
        for row in part:
            ids = row["input_ids"]
            assert (ids[0], ids[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            assert reserved.isdisjoint(ids[1:-1])
            assert limits.more_than < len(ids) < limits.fewer_than
            assert row["length"] == len(ids) - 1
            assert [ids] == tokenizer.encode([row["text"]])
            assert 0 <= min(ids) <= max(ids) < tokenizer.vocabulary_size
            assert tokenizer.decode(ids)
            if tokenizer.lossless:
                assert tokenizer.decode(ids) == row["text"]
                assert tokenizer.unk_id not in ids
            if name == "train" and tokenizer.unk_id not in ids:
                assert without_space(tokenizer.decode(ids)) == without_space(row["text"])
            if name == "train" and "[UNK]" not in row["text"]:
                assert tokenizer.unk_id not in ids
        lengths = part["length"][:]
        assert data.statistics[name] == {
            "sentences": len(lengths),
            "tokens": sum(lengths),
            "mean_length": sum(lengths) / len(lengths),
            "min_length": min(lengths),
            "max_length": max(lengths),
        }
    assert data.length_distribution == Counter(data.splits["train"]["length"])
    pieces = [piece for document in documents for piece in pieces_of(document, data, limits)]
    ids = zip(pieces, tokenizer.encode(pieces), strict=True)
    kept = [
        text
        for text, row in ids
        if limits.more_than < len(row) < limits.fewer_than and reserved.isdisjoint(row[1:-1]) and text.strip()
    ]
    assert texts(data) == sorted(kept)
    counted = data.statistics["texts"]
    assert (counted["kept"], sum(counted["dropped"].values())) == (len(kept), len(pieces) - len(kept))


def pieces_of(document: str, data: PreparedData, limits: PreparationSettings) -> list[str]:
    """Return the sentences of a document, those that are too long in pieces; nothing but white space may be lost."""
    if not document.strip():
        return []
    sentences = own_sentences(document) if limits.clean == "none" else split_document(document, limits.clean) or [""]
    if limits.clean == "none":
        assert covers(document, sentences)
    pieces = encode({"text": sentences}, data.tokenizer, limits)["text"]
    assert without_space("".join(pieces)) == without_space("".join(sentences))
    return pieces


@settings(max_examples=200, deadline=None)
@given(DOCUMENT)
def test_no_character_is_lost_between_document_and_sentences(document: str):
    sentences = split_document(document, "none")
    assert without_space("".join(sentences)) == without_space("".join(paragraphs(document)))
    assert all(sentence.strip() for sentence in sentences)
