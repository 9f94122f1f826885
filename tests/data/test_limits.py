"""Limits of length: every text that is left out is counted by reason and label, and a large loss is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.dataset import load_prepared
from pipeline.data.documents import Document
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.prepare import prepare
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError
from tests.data.own_files import MANY, SPLIT, prepare_file, texts, write_table
from tests.helpers import call

SHORT = ["5", "7", "x", "é"]  # of one or two tokens
LONG = "the old king saw a cat and the queen found the river " * 9


def prepare_own(path: Path, *flags: object, expect: int = 0, name: str = "data") -> Any:
    """Run prepareDatasets.py on a file; return the finished process."""
    fractions = ("--VALIDATION_FRACTION", 0.2, "--TEST_FRACTION", 0.2, "--SEED", 3, "--VOCAB_SIZE", 400)
    data_dir = path.parent / name
    return call("prepareDatasets.py", "--DATA", path, "--DATA_DIR", data_dir, *fractions, *flags, expect=expect)


def statistics(path: Path, name: str = "data") -> dict[str, Any]:
    return json.loads((path.parent / name / path.stem / "statistics.json").read_text())


def reviews(folder: Path, documents: list[str], labels: list[str]) -> Path:
    """Write a table of documents under labels, which repeat."""
    repeated = [labels[number % len(labels)] for number in range(len(documents))]
    return write_table(folder / "own.csv", review=documents, kind=repeated)


# No lower limit.


@pytest.mark.parametrize("flags", [("--ROW_TEMPLATE", ""), ("--ROW_TEMPLATE", "{city}")])
def test_rows_as_text_have_no_lower_limit(tmp_path: Path, flags: tuple[str, ...]):
    own = write_table(tmp_path / "own.csv", city=(["Lima", "Ur", "5", "X", "Stratford-upon-Avon, UK"] * 9))
    prepare_own(own, *flags)
    assert statistics(own)["texts"] | {"remedies": []} == {
        "rows": 45,
        "without_text": 0,
        "kept": 45,
        "dropped": {},
        "dropped_by_label": {},
        "pieces": 0,
        "remedies": [],
    }
    assert statistics(own)["round_trip"]["share"] == 100.0


def test_whole_documents_have_no_lower_limit(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT, *MANY[:20]]) + "\n")
    prepare_own(own, "--WHOLE_DOCUMENTS", True)
    assert texts(load_prepared(tmp_path / "data", "own")) == sorted([*SHORT, *MANY[:20]])


# Counted, stored and printed.


def test_what_is_left_out_is_counted_by_reason_and_label(tmp_path: Path):
    own = reviews(tmp_path, [*SHORT, *MANY[:56], "  ", ""], ["good", "bad"])
    said = prepare_own(own, "--TEXT_COLUMN", "review", "--LABEL_COLUMN", "kind").stdout
    found = statistics(own)
    assert found["texts"] == {
        "rows": 62,
        "without_text": 2,
        "kept": 56,
        "dropped": {"too short": 4},
        "dropped_by_label": {"bad": {"too short": 2}, "good": {"too short": 2}},
        "pieces": 0,
        "remedies": [found["texts"]["remedies"][0]],
    }
    assert re.fullmatch(r"--MORE_THAN \d keeps the short ones", found["texts"]["remedies"][0])
    assert "56 of 60 texts are kept: left out are 4 too short" in said
    assert "of label 'bad' 2 too short" in said
    assert "of label 'good' 2 too short" in said
    assert "2 of 62 rows have no text" in said
    assert found["texts"]["remedies"][0] in said


def test_pieces_of_long_sentences_are_counted(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*MANY[:40], LONG * 5]) + "\n")
    said = prepare_own(own).stdout
    found = statistics(own)["texts"]
    assert (found["kept"], found["dropped"]) == (40 + found["pieces"], {})
    assert found["pieces"] > 2
    assert f"{found['pieces']} of them pieces of longer ones" in said


def test_a_text_that_cleaning_empties_is_counted(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*MANY[:20], "今天很高兴", "— ; !"]) + "\n")
    data = prepare_file(own, tmp_path / "data", clean="paper")
    assert data.statistics["texts"]["dropped"] == {"empty after cleaning": 2}


def test_a_text_without_tokens_is_counted_as_empty(tmp_path: Path):
    """A tokenizer that drops control characters leaves no token of such a text: no limit of length would keep it."""
    from pipeline.data.tokenizer import train_wordpiece

    tokenizer = train_wordpiece(MANY, 200, lower_case=True)  # its normalizer drops them
    tokenizer.save(tmp_path)
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*MANY[:20], "\u200b\u200d"]) + "\n")
    data = prepare_file(own, tmp_path / "data", tokenizer=str(tmp_path), vocabulary_size=0, whole=True)
    assert data.statistics["texts"]["dropped"] == {"empty after cleaning": 1}
    assert data.statistics["texts"]["remedies"] == []


def test_a_text_that_spells_a_special_token_is_counted(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*MANY[:20], "the old king saw [SEP] and left"]) + "\n")
    data = prepare_file(own, tmp_path / "data")
    assert data.statistics["texts"]["dropped"] == {"with a special token in its text": 1}
    kept = prepare_file(own, tmp_path / "lossless", tokenizer="bpe", vocabulary_size=400)
    assert kept.statistics["texts"]["dropped"] == {}


# Refused above a fifth.


def refused(own: Path, *flags: object) -> tuple[str, list[str]]:
    """Return the refusal, and the flags that it names as a remedy, with their values."""
    *progress, line = prepare_own(own, *flags, expect=2).stderr.splitlines()
    assert "Traceback" not in "".join(progress)
    assert not (own.parent / "data").exists() or not list((own.parent / "data").iterdir())
    return line, [word for flag in re.findall(r"--(?:FEWER|MORE)_THAN \d+", line) for word in flag.split()]


def test_short_texts_are_refused_with_the_limit_that_keeps_them_all(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT * 5, *MANY[:60]]) + "\n")
    line, remedy = refused(own)
    assert "20 of 80 texts would be left out (20 too short)" in line
    assert "--ACCEPT_LOSS True" in line
    assert remedy == ["--MORE_THAN", "2"]
    prepare_own(own, *remedy)
    assert statistics(own)["texts"]["dropped"] == {}
    assert statistics(own)["texts"]["kept"] == 80


@pytest.mark.parametrize("flags", [("--TEXT_COLUMN", "review", "--WHOLE_DOCUMENTS", True), ("--ROW_TEMPLATE", "")])
def test_long_texts_are_refused_with_the_limit_that_keeps_them_all_and_its_cost(
    tmp_path: Path, flags: tuple[object, ...]
):
    own = write_table(tmp_path / "own.csv", review=[*MANY[:40], *[LONG * 5] * 19, LONG * 6])
    line, remedy = refused(own, *flags)
    assert "20 of 60 texts would be left out (20 too long)" in line
    flag, value = remedy
    limit = 250 if "--ROW_TEMPLATE" in flags else 150
    longest = int(value) - 1
    cost = f"{(longest / (limit - 1)) ** 2:,.1f}"
    assert f"up to {longest:,} tokens: attention over such a text takes {cost} times the time and memory" in line
    prepare_own(own, *flags, flag, value)
    assert statistics(own)["texts"]["dropped"] == {}
    assert max(statistics(own)[part]["max_length"] for part in ("train", "validation", "test")) + 1 == longest
    prepare_own(own, *flags, flag, longest, name="less")  # no smaller value keeps all
    assert statistics(own, "less")["texts"]["dropped"] == {"too long": 1}


def test_both_limits_may_lose_texts_and_both_remedies_together_keep_all(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT * 5, *[(LONG * 5).strip()] * 20, *MANY[:40]]) + "\n")
    _, remedy = refused(own, "--WHOLE_DOCUMENTS", True, "--MORE_THAN", 8)
    assert sorted(remedy[::2]) == ["--FEWER_THAN", "--MORE_THAN"]
    prepare_own(own, "--WHOLE_DOCUMENTS", True, *remedy)
    assert statistics(own)["texts"]["dropped"] == {}
    assert statistics(own)["texts"]["kept"] == 80


def test_a_loss_is_accepted_where_that_is_asked_for(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT * 5, *MANY[:60]]) + "\n")
    said = prepare_own(own, "--ACCEPT_LOSS", True).stdout
    assert "60 of 80 texts are kept: left out are 20 too short" in said
    assert statistics(own)["texts"]["dropped"] == {"too short": 20}


def test_a_fifth_may_be_lost(tmp_path: Path):
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT * 5, *MANY[:80]]) + "\n")
    prepare_own(own)
    assert statistics(own)["texts"]["dropped"] == {"too short": 20}


def test_a_named_corpus_is_never_refused_for_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pipeline.data import text_source

    def documents(*_: object) -> list[Document]:
        return [Document(part, text) for part in range(3) for text in [*SHORT * 20, *MANY[:40]]]

    monkeypatch.setattr(text_source, "hub_documents", documents)
    settings = PreparationSettings("wordpiece", 300, "paper")
    found = prepare(TextSource("ptb", SPLIT), "ptb", tmp_path / "data", settings)
    assert found["texts"]["kept"] == 120
    assert sum(found["texts"]["dropped"].values()) > 120
    assert "round_trip" not in found
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*SHORT * 20, *MANY[:40]]) + "\n")
    with pytest.raises(UserError, match="would be left out"):
        prepare_file(own, tmp_path / "data")


# Labels.


def test_a_label_without_a_training_sentence_is_reported(tmp_path: Path):
    labels = ["good"] * 20 + ["bad"] * 20 + ["short"] * 3
    own = write_table(tmp_path / "own.csv", review=[*MANY[:40], *SHORT[:3]], kind=labels)
    said = prepare_own(own, "--TEXT_COLUMN", "review", "--LABEL_COLUMN", "kind").stdout
    assert "no training sentence has the label 'short'" in said
    found = statistics(own)
    assert found["labels_without_training"] == ["short"]
    assert sorted(found["labels"]) == ["bad", "good"]
    assert sum(found["labels"].values()) == found["train"]["sentences"]
