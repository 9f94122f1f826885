"""Byte-level BPE of own text: decoding the tokens of a text gives the text, whatever it spells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.data.byte_level import is_lossless
from pipeline.data.tokenizer import SPECIAL, TextTokenizer, load_tokenizer, train_bpe, train_wordpiece
from tests.data.own_files import DOCUMENTS, SCRIPTS
from tests.helpers import ROOT

LABELS = ["x", "[SEP]", "a]b", "two\nlines", "", "é 你", "PAD]", "4.50", "4.5", " "]
SPELLED = [*SPECIAL, "<unk>", "[LABEL:x]", "[LABEL:", "[LABEL:a]b]", "##a", "Ġ", "Ċ", "[", "]"]
PIECES = st.one_of(
    st.sampled_from(SPELLED),
    st.sampled_from(["  ", "\t", "\n", "\r\n", "\r", " \n ", "\u00a0", "\u2028", "\u3000", "\x00", "\ufeff", "\ufffd"]),
    st.sampled_from(
        ["👨‍👩‍👧", "👍🏽", "e\u0301", "\u00e9", "can't", "3.14", "£51.91", "U.S.", "https://a.example/?b=c#d"]
    ),
    st.sampled_from([*SCRIPTS.values(), "今天很高兴。", "ไปโรงเรียน", *DOCUMENTS[:3]]),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
TEXT = st.lists(PIECES, max_size=8).map("".join)


@pytest.fixture(scope="module")
def trained() -> TextTokenizer:
    """A tokenizer with labels, trained on texts that spell special tokens."""
    tokenizer = train_bpe([*DOCUMENTS, *SCRIPTS.values(), *["[SEP] [PAD][PAD] <unk> [LABEL:x]"] * 100], 400)
    tokenizer.add_labels(LABELS)
    return tokenizer


@pytest.fixture(scope="module")
def stored(trained: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The stored tokenizer, as the tokenizers library alone reads it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    trained.save(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@settings(max_examples=400, deadline=None)
@given(TEXT, st.sampled_from([None, *LABELS]))
def test_decoding_gives_the_text_that_was_encoded(trained: TextTokenizer, text: str, label: str | None):
    (ids,) = trained.encode([text], [label])
    assert trained.decode(ids) == text
    assert trained.decode([*ids, trained.pad_id, trained.pad_id]) == text
    assert (ids[0], ids[-1]) == (trained.cls_id, trained.sep_id)
    assert ids[1 : 2 if label is not None else 1] == ([] if label is None else [trained.labels[label]])
    own = ids[1 if label is None else 2 : -1]
    assert not {trained.pad_id, trained.unk_id, trained.cls_id, trained.sep_id, *trained.label_ids} & set(own)


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_the_stored_file_alone_gives_the_text_back(stored: Tokenizer, text: str):
    ids = stored.encode(text).ids
    assert stored.decode(ids) == text
    assert stored.decode(ids, skip_special_tokens=False) == text


def test_labels_of_any_spelling_come_back_from_the_stored_file(trained: TextTokenizer, tmp_path: Path):
    trained.save(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert again.lossless
    assert again.labels == trained.labels
    assert list(again.labels) == LABELS
    assert len(set(again.label_ids)) == len(LABELS)
    assert again.vocabulary_size == trained.vocabulary_size


def test_a_text_that_spells_a_special_token_does_not_make_it_one_of_its_tokens():
    tokenizer = train_bpe(["the king [SEP] left [LABEL:x]"] * 100 + ["[SEP]" * 100], 2000)
    tokenizer.add_labels(["x"])
    for spelled in ("[SEP]", " [SEP]", "[SEP][SEP]", "[LABEL:x]"):
        (ids,) = tokenizer.encode([spelled])
        assert len(ids) >= 5, spelled
        assert tokenizer.decode(ids) == spelled
    assert tokenizer.tokenizer.get_vocab()["[SEP]"] == 3
    assert tokenizer.sep_id == 3


def test_training_keeps_the_bytes_and_then_to_the_vocabulary_size():
    texts = [*DOCUMENTS, *SCRIPTS.values()] * 3
    assert train_bpe(texts, 300).vocabulary_size == 300
    assert train_bpe(texts, 100).vocabulary_size == len(SPECIAL) + 256


def test_frequent_words_are_single_tokens():
    tokenizer = train_bpe(DOCUMENTS, 2000)
    (ids,) = tokenizer.encode([" the king saw the river"])
    assert len(ids) == 7


def test_numbers_are_read_digit_by_digit():
    tokenizer = train_bpe(["the king paid 1234.50 and 1234.50"] * 50, 2000)
    (ids,) = tokenizer.encode(["1234.50"])
    assert [tokenizer.tokenizer.id_to_token(one) for one in ids[1:-1]] == ["1", "2", "3", "4", ".", "5", "0"]


@pytest.mark.parametrize("unit", ["ab", "漢字", "-=", " \n", "ไป"])
def test_a_word_without_an_end_is_trained_on_and_encoded(unit: str):
    text = unit * 200_000  # in time that grows with the square of its length, this would take many minutes
    tokenizer = train_bpe([text, text], 500)
    assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_other_tokenizers_are_not_lossless():
    assert not train_wordpiece(DOCUMENTS, 200, lower_case=False).lossless
    special = train_bpe(DOCUMENTS, 300).tokenizer
    assert is_lossless(special)
    special.add_special_tokens(["[SEP]"])  # the library would now find it in a text
    assert not is_lossless(special)


@pytest.mark.slow
def test_the_same_texts_give_the_same_file_in_every_process(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from pipeline.data.tokenizer import train_bpe; "
        "from tests.data.own_files import DOCUMENTS, SCRIPTS; "
        "made = train_bpe([*DOCUMENTS, *SCRIPTS.values()] * 3, 600); made.add_labels(['b', 'a']); "
        "made.save(Path(sys.argv[1]))"
    )
    for seed in ("0", "1"):
        (tmp_path / seed).mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, tmp_path / seed], cwd=ROOT, env=environment, check=True)
    first, second = ((tmp_path / seed / "tokenizer.json").read_bytes() for seed in ("0", "1"))
    assert first == second
