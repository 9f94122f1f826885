"""Rows of a file that sample.py completes: given values stay, missing ones are drawn given them."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import from_pretrained, load_experiment
from tests.data.own_files import places
from tests.helpers import call, one_line_of_error

pytestmark = pytest.mark.slow

COLUMNS = ["id", "sex", "age", "price", "day", "note", "city", "class"]
CITIES = {"f": "Bern", "m": "Chur"}


def write(path: Path, columns: list[str], rows: list[list[object]]) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two prepared tables, one with labels, and models that know that a city follows from the sex."""
    found = tmp_path_factory.mktemp("impute")
    rng = np.random.default_rng(0)
    rows: list[list[object]] = []
    for number in range(1000):
        sex = "fm"[rng.integers(2)]
        age = "" if rng.random() < 0.15 else rng.integers(20, 70)
        day = f"{rng.integers(2019, 2022)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
        price, note = f"{rng.integers(100, 9100) / 100:.2f}", f"seen {rng.integers(1000)} times"
        name, note = ("", "NA") if rng.random() < 0.3 else (f"A-{number:04d}", note)
        rows.append([name, sex, age, price, day, note, CITIES[sex], "xy"[rng.integers(2)]])
    write(found / "own.csv", COLUMNS[:-1], [row[:-1] for row in rows])
    write(found / "labelled.csv", COLUMNS, rows)
    data = ("--ROW_TEMPLATE", "--DATA_DIR", found / "data")
    call("prepareDatasets.py", "--DATA", found / "own.csv", *data)
    call("prepareDatasets.py", "--DATA", found / "labelled.csv", "--LABEL_COLUMN", "class", *data)
    size = ("--DIM_H", 64, "--BATCH_SIZE", 64, "--NUM_HEADS", 4, "--DROPOUT", 0, "--LEARNING_RATE", 0.003)
    for name, model, of, steps in (("lm", "LM", "own", 300), ("nvib", "NVIB", "own", 2), ("la", "LM", "labelled", 2)):
        flags = ("--EXPERIMENT_NAME", name, "--MODEL", model, "--DATA", of, "--MAX_STEPS", steps)
        call("train.py", *flags, *size, *places(found))
    yield found


def completed(folder: Path, path: Path, *flags: object, name: str = "lm") -> list[dict[str, str]]:
    own = ("--EXPERIMENT_NAME", name, "--DECODING", "sample", "--IMPUTE", path)
    call("sample.py", *own, *places(folder), *flags)
    with open(next((folder / "outputs").glob(f"*/{name}/synthetic.csv")), newline="") as file:
        return list(csv.DictReader(file))


def test_given_values_stay_and_missing_ones_are_drawn_given_them(folder: Path):
    rows: list[list[object]] = [["fm"[number % 2], "", "", ""] for number in range(80)]
    rows += [["", 41, "3.50", ""], ["m", "NA", "", "my own words " * 9], ["", "", "", ""]]
    path = write(folder / "open.csv", ["sex", "age", "price", "note"], rows)
    found = completed(folder, path)
    assert len(found) == len(rows)
    for row, own in zip(rows, found, strict=True):
        given = dict(zip(("sex", "age", "price", "note"), map(str, row), strict=True))
        assert all(own[name] == value for name, value in given.items() if value not in ("", "NA"))
        assert 20 <= int(own["age"]) <= 69  # a missing value is drawn as a present one
        assert own["day"] and own["note"] != "NA"
    assert sum(own["city"] == CITIES[own["sex"]] for own in found) > 0.7 * len(found)
    assert len({own["age"] for own in found}) > 10
    names = [own["id"] for own in found if own["id"]]
    assert len(set(names)) == len(names) > 70  # rows without a note have none, and each note is open or given here


def test_a_column_that_the_file_lacks_may_be_missing(folder: Path):
    rows = completed(folder, write(folder / "sexes.csv", ["sex"], [["f"]] * 100))
    assert 0 < sum(not row["age"] for row in rows) < 50
    assert 10 < sum(not row["id"] for row in rows) < 60


def test_the_share_of_a_value_given_others_is_the_models(folder: Path):
    """Open values that may not be missing leave the distribution of the others as `--WHERE` draws it."""
    path = write(folder / "ages.csv", ["age"], [[""]] * 200)
    ages = [int(row["age"]) for row in completed(folder, path)]
    own = ("--EXPERIMENT_NAME", "lm", "--DECODING", "sample", "--NUMBER_SAMPLES", 200)
    call("sample.py", *own, "--WHERE", "age is not missing", "--SEED", 3, *places(folder))
    with open(next((folder / "outputs").glob("*/lm/synthetic.csv")), newline="") as file:
        others = [int(row["age"]) for row in csv.DictReader(file)]
    assert abs(sum(ages) / 200 - sum(others) / 200) < 5  # the standard error of the difference is 1.4


def test_conditions_hold_beside_given_values_and_the_same_seed_gives_the_same_rows(folder: Path):
    path = write(folder / "few.csv", ["id", "sex"], [["Z-1234", "f"], ["A-0001", "m"], *[["", "m"]] * 8])
    (folder / "rules.json").write_text(json.dumps([{"unique": ["price"]}, {"inequality": "age < price"}]))
    flags = ("--WHERE", "age > 30 and price < 80", "--CONSTRAINTS", folder / "rules.json", "--GENERATION_BATCH_SIZE", 2)
    found = completed(folder, path, *flags)
    assert [row["sex"] for row in found] == ["f", *"m" * 9]
    assert [row["id"] for row in found[:2]] == ["Z-1234", "A-0001"]
    assert all(row["id"] for row in found)
    assert all(int(row["age"]) > 30 and int(row["age"]) < float(row["price"]) < 80 for row in found)
    assert found == completed(folder, path, *flags)


def test_a_json_file_and_the_library_complete_rows(folder: Path):
    path = folder / "rows.jsonl"
    path.write_text('{"age": 33, "sex": null}\n{"age": null, "sex": "f"}\n')
    found = completed(folder, path)
    assert found[0]["age"] == "33" and found[1]["sex"] == "f"
    model = load_experiment(next((folder / "outputs").glob("*/lm")), folder / "data")
    texts = model.generate(2, impute=str(path), decoding="sample")
    assert len(texts) == 2 and "age is 33" in texts[0]
    model.save_pretrained(folder / "shared")
    shared = from_pretrained(folder / "shared").generate(2, impute=str(path), decoding="sample")
    assert [text.split(", ", 1)[1] for text in shared] == [text.split(", ", 1)[1] for text in texts]  # new identifiers


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"age": 40.5}, "'40.5' is no integer"),
        ({"price": 12.345}, "'12.345'"),
        ({"age": True}, "'True' is no number"),
    ],
)
def test_a_number_that_the_column_cannot_spell_is_refused_and_not_rounded(folder: Path, row: dict, said: str):
    (folder / "bad.json").write_text(json.dumps([row]))
    own = ("--EXPERIMENT_NAME", "lm", "--DECODING", "sample", "--IMPUTE", folder / "bad.json", *places(folder))
    line = one_line_of_error(call("sample.py", *own, expect=2))
    assert f"column {next(iter(row))!r}" in line and said in line
    (folder / "good.json").write_text(json.dumps([{"age": 40.0, "price": 12.5}]))
    (made,) = completed(folder, folder / "good.json")
    assert (made["age"], float(made["price"])) == ("40", 12.5)


def test_the_delimiter_of_the_data_is_tried_first(folder: Path):
    (folder / "one.csv").write_text("note\na; b\nc; d\n")
    assert [row["note"] for row in completed(folder, folder / "one.csv")] == ["a; b", "c; d"]
    (folder / "other.csv").write_text("sex;age\nf;33\n")
    assert completed(folder, folder / "other.csv")[0]["age"] == "33"


@pytest.mark.parametrize(
    ("rules", "rows", "message"),
    [
        ({"inequality": "age > price"}, [["", "", "7"], ["30", "40.00", "7"]], "line 3: its values break age > price"),
        ({"unique": "note"}, [["", "", "7"], ["", "", "7"]], "line 3: note are unique by --CONSTRAINTS"),
        ({"formula": "price = age * 2"}, [["20", "40.10", "7"]], "line 2: column 'price' is '40.10', and its formula"),
    ],
)
def test_given_values_that_break_a_constraint_are_refused_before_the_work(
    folder: Path, rules: object, rows: list[list[object]], message: str
):
    path = write(folder / "broken.csv", ["age", "price", "note"], rows)
    (folder / "rules.json").write_text(json.dumps([rules]))
    own = ("--EXPERIMENT_NAME", "lm", "--DECODING", "sample", "--IMPUTE", path, "--CONSTRAINTS", folder / "rules.json")
    said = call("sample.py", *own, *places(folder), expect=2).stderr
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_labels_are_those_of_the_file_or_of_the_flag(folder: Path):
    path = write(folder / "classes.csv", ["class", "sex"], [["x", "f"], ["y", "m"], ["x", "m"]])
    found = completed(folder, path, name="la")
    assert [(row["class"], row["sex"]) for row in found] == [("x", "f"), ("y", "m"), ("x", "m")]
    path = write(folder / "sexes.csv", ["sex"], [["f"]] * 4)
    assert Counter(row["class"] for row in completed(folder, path, "--LABEL", "y", name="la")) == {"y": 4}


@pytest.mark.parametrize(
    ("name", "columns", "row", "flags", "message"),
    [
        ("lm", ["size"], [3], (), "has a column 'size', which the rows of the model do not have"),
        ("lm", ["age"], [99], (), "bad.csv, line 2: column 'age': '99' lies outside 20 to 69"),
        ("lm", ["age"], ["old"], (), "bad.csv, line 2: column 'age': 'old'"),
        ("lm", ["city"], ["Genf"], (), "bad.csv, line 2: column 'city': 'Genf' is none of the values"),
        ("lm", ["note"], ["my own, city is Bern"], (), "bad.csv, line 2: column 'note' holds ', city is '"),
        ("lm", ["sex"], ["f"], ("--NUMBER_SAMPLES", 7), "has 1 rows, and a sample for each"),
        ("lm", ["sex"], ["f"], ("--BALANCE", "city"), "leave one out"),
        ("lm", ["sex"], ["f"], ("--NOVEL", "True"), "leave --NOVEL out"),
        ("lm", ["sex"], ["f"], ("--WHERE", "sex = m"), "bad.csv, line 2: no value of column 'sex'"),
        ("nvib", ["sex"], ["f"], (), "--IMPUTE is for a language model of rows"),
        ("la", ["sex"], ["f"], (), "add the column 'class' to the file"),
        ("la", ["class"], ["z"], (), "bad.csv, line 2: column 'class': 'z' is none of the values"),
        ("la", ["class"], ["x"], ("--LABEL", "x"), "leave --LABEL out"),
    ],
)
def test_what_cannot_be_completed_is_refused_in_one_line(
    folder: Path, name: str, columns: list[str], row: list[object], flags: tuple[object, ...], message: str
):
    path = write(folder / "bad.csv", columns, [row])
    own = ("--EXPERIMENT_NAME", name, "--DECODING", "sample", "--IMPUTE", path)
    said = call("sample.py", *own, *flags, *places(folder), expect=2).stderr
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.csv", "does not exist"), ("words.txt", "is no table"), ("empty.csv", "is empty"), ("head.csv", "no")],
)
def test_a_file_that_is_no_table_is_refused(folder: Path, name: str, message: str):
    (folder / "words.txt").write_text("words")
    (folder / "empty.csv").write_text("")
    (folder / "head.csv").write_text("sex,age\n")
    own = ("--EXPERIMENT_NAME", "lm", "--DECODING", "sample", "--IMPUTE", folder / name)
    said = call("sample.py", *own, *places(folder), expect=2).stderr
    assert message in said
    assert len(said.strip().splitlines()) == 1
