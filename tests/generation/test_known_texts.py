"""Texts that repeat training texts, against a plain search."""

import random
import string
from pathlib import Path

import pytest

from models.sampling import LONG_RUN
from pipeline.data.row_template import RowTemplate
from pipeline.generation import known_texts
from pipeline.generation.known_texts import KnownTexts
from tests.data.own_files import prepared_table, write_rows

TRAIN = ["The old king saw a river near the town and left.", "a cat", "Zürich ist GROSS!"]
TWENTY = [f"{word}{number}" for number, word in enumerate("abcdefghijklmnopqrst")]


def words(text: str) -> list[str]:
    """Words without marks at their ends, in lower case."""
    stripped = (word.strip(string.punctuation) for word in text.lower().split())
    return [word for word in stripped if word]


def runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + LONG_RUN]) for start in range(len(found) - LONG_RUN + 1)}


@pytest.mark.parametrize("at_once", [7, 10_000])
def test_exact_texts_and_long_runs_are_those_of_a_plain_search(monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr(known_texts, "AT_ONCE", at_once)
    draw = random.Random(0)

    def sentence(length: int) -> str:
        return " ".join(draw.choice(["The", "cat,", "(saw", "dog)", "-", "it."]) for _ in range(length))

    train = [sentence(draw.randrange(1, 30)) for _ in range(60)]
    texts = [sentence(draw.randrange(1, 12)) for _ in range(200)]
    for whole in train:  # pieces of training texts in other case, with other words around them
        start = draw.randrange(max(1, len(whole.split()) // 3))
        piece = whole.split()[start : start + draw.randrange(6, 18)]
        texts.append(" ".join(["never", *piece, "ever"]).upper())
    texts += ["", "  ", f"\n{train[0].swapcase()} \t"]
    found = KnownTexts(train).repeats(texts)
    plain = {text.strip().lower() for text in train}
    known = set().union(*map(runs, train))
    assert found.exact.tolist() == [bool(text.strip()) and text.strip().lower() in plain for text in texts]
    assert found.run.tolist() == [bool(runs(text) & known) for text in texts]
    assert 15 < found.run.sum() < 60
    assert found.exact[-1]
    assert found.numbers == [row for row, _ in enumerate(texts) if found.exact[row] or found.run[row]]


def test_a_run_has_eight_words_of_one_training_text():
    known = KnownTexts([" ".join(TWENTY[:10]), " ".join(TWENTY[10:])])
    texts = [
        f"x {' '.join(TWENTY[1:9])} y",
        f"x {' '.join(TWENTY[1:8])} y",  # one word less
        f"x {' '.join(TWENTY[6:14])} y",  # over the end of a training text
        f"x {', '.join(TWENTY[1:9]).title()}. – y",  # marks at the ends of words, and another case
        f"x {' '.join(TWENTY[1:5])} - {' '.join(TWENTY[5:9])} y",  # a mark alone is no word
        f"x {' '.join(TWENTY[1:5])} z {' '.join(TWENTY[5:9])} y",
    ]
    assert known.repeats(texts).run.tolist() == [True, False, False, True, True, False]
    assert not known.repeats(texts).exact.any()


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("a cat", True),
        ("\t A CAT \n", True),
        ("a  cat", False),
        ("a cat.", False),
        ("zürich ist groß!", True),
        ("", False),
        (" ", False),
    ],
)
def test_an_exact_copy_may_differ_in_case_and_in_white_space_at_its_ends(text: str, exact: bool):
    assert KnownTexts([*TRAIN, ""]).repeats([text]).exact.tolist() == [exact]


def test_no_training_text_and_no_text_are_no_repetition():
    assert KnownTexts([]).repeats(["a cat"]).numbers == []
    assert KnownTexts(TRAIN).repeats([]).numbers == []


def test_words_of_other_scripts_keep_their_vowel_signs_and_characters_count_without_spaces():
    hindi = "की कि का के को कै कौ कं"  # eight words of one consonant and different signs
    known = KnownTexts([hindi, "老国王昨天看见了那条河。"])
    others = [hindi.replace("की", "कू"), "昨天看见了那条。", "昨天看见了那座桥"]
    assert known.repeats([f"x {hindi}", *others]).run.tolist() == [True, False, False, False]
    assert known.repeats(["他昨天看见了那条河吗"]).run.tolist() == [True]


def test_a_row_repeats_a_row_with_its_values_and_the_words_of_the_template_are_no_run():
    pattern = "the name of this person is {name} , the age in years is {age} and the text is {note}"
    template = RowTemplate(pattern, ["name", "age", "note"], "own")
    note = " ".join(TWENTY[:9])

    def row(name: str, age: str, note: str) -> str:
        return template.text({"name": name, "age": age, "note": note})

    known = KnownTexts([row("Old King", "31", note), row(" ".join(TWENTY[9:18]), "7", "x")], template, ["note"])
    texts = [
        row("old king ", " 31", note.upper()),  # case and white space at the ends of each value
        row("old king", "32", "y"),
        row("Cat", "5", f"so {' '.join(TWENTY[1:9])}"),
        row(" ".join(TWENTY[9:18]), "8", "z"),  # a column of another type than free text
        f"no row: {note}",
        "the name of this person is x , the age in years is",  # no row either
    ]
    found = known.repeats(texts)
    assert found.exact.tolist() == [True, False, False, False, False, False]
    assert found.run.tolist() == [True, False, True, False, True, False]


def test_a_row_under_another_identifier_is_a_copy(tmp_path: Path):
    """Each sample has an identifier that the data lack."""
    rows = [{"id": f"A-{n:03d}", "size": n, "kind": "ab"[n % 2]} for n in range(60)]
    data = prepared_table(write_rows(tmp_path / "own.csv", rows), row_template="", tokenizer="table")
    train = data.splits["train"]["text"]
    known = KnownTexts.of(data)
    assert known.repeats([f"id is Z-999,{text.partition(',')[2]}" for text in train]).exact.all()
    assert not known.repeats([text.replace("kind is ", "kind is c") for text in train]).exact.any()
    (tmp_path / "alone").mkdir()
    path = write_rows(tmp_path / "alone" / "own.csv", [{"id": row["id"]} for row in rows])
    alone = KnownTexts.of(prepared_table(path, row_template="", tokenizer="table"))
    assert not alone.repeats(["id is Z-999"]).exact.any(), "there is no other column"


def test_a_prepared_table_knows_its_columns_of_free_text(tmp_path: Path):
    draw = random.Random(0)
    choices = [
        "not at all satisfied with the service that was given",
        "very much satisfied with the service given to me",
    ]
    rows = [
        {"answer": choices[n % 2], "why": " ".join(draw.choices(TWENTY, k=12)), "age": draw.randrange(20, 90)}
        for n in range(60)
    ]
    data = prepared_table(write_rows(tmp_path / "own.csv", rows), row_template="", tokenizer="bpe")
    train = data.splits["train"]["text"]
    known = KnownTexts.of(data)
    changed = [text.replace("why is ", "why is other ").split(", age is")[0] + ", age is 5" for text in train]
    fresh = [f"answer is {choices[0]}, why is {' '.join(draw.choices(TWENTY, k=7))}, age is 5" for _ in range(9)]
    assert known.repeats(train).exact.all()
    assert known.repeats(changed).run.all()
    assert not known.repeats(changed).exact.any()
    assert known.repeats(fresh).numbers == []
