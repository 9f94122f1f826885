"""Rows of a table from preparation to samples, as a user types it: valid rows, conditions, constraints, refusals."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from models.sampling import SamplingSettings
from pipeline import from_pretrained, load_experiment
from pipeline.data.writers import TableForm
from pipeline.generation.row_samples import RowDraws
from pipeline.reporting.explorer_view import sampled as sampled_rows
from pipeline.runtime.errors import UserError
from tests.data.own_files import places
from tests.helpers import call

pytestmark = pytest.mark.slow

COLUMNS = ["id", "age", "price", "day", "city", "note", "total"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a prepared table of all kinds of columns, and a barely trained model."""
    found = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    with open(found / "own.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(300):
            price = rng.integers(100, 99999) / 100
            writer.writerow(
                [
                    f"A-{number:04d}",
                    "" if number % 11 == 0 else 18 + number % 60,
                    f"{price:.2f}",
                    f"{1 + number % 28:02d}.{1 + number % 12:02d}.{2019 + number % 3}",
                    ("Bern", "Basel", "Chur")[number % 3],
                    ("good", "bad, is", "")[number % 3] + str(number % 50),
                    f"{2 * price:.2f}",
                ]
            )
    call("prepareDatasets.py", "--DATA", found / "own.csv", "--ROW_TEMPLATE", "--DATA_DIR", found / "data")
    small = ("--DIM_H", 16, "--MAX_STEPS", 3, "--BATCH_SIZE", 16)
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", "--DATA", "own", *small, *places(found))
    call("train.py", "--EXPERIMENT_NAME", "nvib", "--MODEL", "NVIB", "--DATA", "own", *small, *places(found))
    yield found


def sampled(folder: Path, name: str, *flags: object) -> list[dict[str, str]]:
    """Sample and return the rows of synthetic.csv."""
    said = call(
        "sample.py", "--EXPERIMENT_NAME", name, "--NUMBER_SAMPLES", 40, "--DECODING", "sample", *places(folder), *flags
    )
    assert "as the data came" in said.stdout
    with open(next((folder / "outputs").glob(f"*/{name}/synthetic.csv")), newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["lm", "nvib"])
def test_every_sample_is_a_row_with_a_new_identifier(folder: Path, name: str):
    rows = sampled(folder, name)
    assert len(rows) == 40
    for row in rows:
        assert list(row) == COLUMNS
        assert re.fullmatch(r"[A-Z]-\d{4}", row["id"])
        assert not row["age"] or 18 <= int(row["age"]) <= 77
        assert re.fullmatch(r"\d+\.\d\d", row["price"])
        assert re.fullmatch(r"\d\d\.\d\d\.20(19|20|21)", row["day"])
        assert row["city"] in ("Bern", "Basel", "Chur")
    with open(folder / "own.csv", newline="") as file:
        known = {row["id"] for row in csv.DictReader(file)}
    assert not known & {row["id"] for row in rows}
    assert len({row["id"] for row in rows}) == 40


def test_conditions_hold_for_every_row(folder: Path):
    rows = sampled(folder, "lm", "--WHERE", "age >= 30 and price < 250.5 and city in (Bern, Chur) and day > 2020-06-30")
    assert len(rows) == 40
    for row in rows:
        assert int(row["age"]) >= 30
        assert float(row["price"]) < 250.5
        assert row["city"] != "Basel"
        day, month, year = row["day"].split(".")
        assert (year, month, day) > ("2020", "06", "30")


def test_given_values_are_kept_and_the_others_drawn(folder: Path):
    rows = sampled(folder, "nvib", "--WHERE", "age = 40 and city = Bern and note = 'good3' and id = A-0003")
    assert {(row["age"], row["city"], row["note"], row["id"]) for row in rows} == {("40", "Bern", "good3", "A-0003")}
    assert len({row["price"] for row in rows}) > 20


def test_missing_values_can_be_asked_for(folder: Path):
    assert {row["age"] for row in sampled(folder, "lm", "--WHERE", "age is missing")} == {""}
    assert "" not in {row["age"] for row in sampled(folder, "lm", "--WHERE", "age is not missing")}


def test_samples_near_a_row_and_those_between_two_are_rows(folder: Path):
    model = load_experiment(next((folder / "outputs").glob("*/nvib")), folder / "data")
    data = model.experiment.data
    first, second = data.splits["train"]["text"][:2]
    for flags in (("--NEAR", first), ("--NEAR", first, "--KEEP", 0.5), ("--MIX", first, second, "--NUMBER_SAMPLES", 3)):
        for row in sampled(folder, "nvib", *flags):
            assert row["city"] in ("Bern", "Basel", "Chur")
            assert not row["age"] or 18 <= int(row["age"]) <= 77
    # The latent of a row holds the order of its columns, in which its decoder writes them.
    assert cast(RowDraws, RowDraws.of(model.experiment, SamplingSettings(near=first))).free
    assert cast(RowDraws, RowDraws.of(model.experiment, SamplingSettings(mix=(first, second)))).free
    assert not cast(RowDraws, RowDraws.of(model.experiment, SamplingSettings())).free
    form, template = TableForm(data.statistics["source"]), data.tokenizer.template
    for text in model.interpolate(first, second, steps=5):
        own = template.values(text) | {"id": "A-0001"}  # samples get a new one; elsewhere it is what the decoder writes
        assert list(form.row({"text": template.text(own)})) == COLUMNS  # refuses what is no row


def test_constraints_hold_for_every_row(folder: Path):
    rules = [
        {"inequality": "age < price"},
        {"unique": ["age", "city"]},
        {"formula": "total = price * 2 - 0.5"},
        {"where": "price <= 400"},
    ]
    (folder / "rules.json").write_text(json.dumps(rules))
    rows = sampled(folder, "lm", "--CONSTRAINTS", folder / "rules.json")
    assert len({(row["age"], row["city"]) for row in rows}) == 40
    for row in rows:
        assert not row["age"] or float(row["age"]) < float(row["price"])
        assert float(row["price"]) <= 400
        assert float(row["total"]) == pytest.approx(2 * float(row["price"]) - 0.5, abs=0.006)


@pytest.mark.parametrize("name", ["lm", "nvib"])
def test_a_balanced_column_has_as_many_rows_of_each_member(folder: Path, name: str):
    rows = sampled(folder, name, "--BALANCE", "city", "--WHERE", "city != Chur and age > 30 and price < 400")
    assert Counter(row["city"] for row in rows) == {"Bern": 20, "Basel": 20}
    assert all(int(row["age"]) > 30 and float(row["price"]) < 400 for row in rows)
    assert "Bern" in {row["city"] for row in rows[:20]} and "Basel" in {row["city"] for row in rows[:20]}
    (folder / "few.json").write_text('[{"inequality": "age < price"}, {"unique": ["price"]}]')
    flags = ("--NOVEL", "True", "--GENERATION_BATCH_SIZE", 7, "--CONSTRAINTS", folder / "few.json")
    rows = sampled(folder, name, "--BALANCE", "city", *flags)
    assert sorted(Counter(row["city"] for row in rows).values()) == [13, 13, 14]


def test_the_same_seed_gives_the_same_rows(folder: Path):
    flags = ("--WHERE", "price > 500", "--SEED", 7)
    assert sampled(folder, "nvib", *flags) == sampled(folder, "nvib", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--WHERE", "size > 3"), "there is no column 'size'"),
        (("--WHERE", "price > 9999999"), "no value of column 'price'"),
        (("--WHERE", "age > 30 and age < 20"), "no value of column 'age'"),
        (("--WHERE", "city = Genf"), "has no value 'Genf'"),
        (("--WHERE", "city > 3"), "has no order"),
        (("--WHERE", "age = 3 or age = 4"), "joins conditions by 'and'"),
        (("--WHERE", "age >"), "ends after"),
        (("--WHERE", "age > 30", "--TOP_P", 0.9), "--TOP_P 0.9 cuts off values that a condition"),
        (("--DECODING", "beam"), "beam search is not for the rows"),
        (("--MAX_LENGTH", 5), "--MAX_LENGTH means nothing"),
        (("--BALANCE", "price"), "needs a column of categories or booleans, and column 'price' is of type number"),
        (("--CONSTRAINTS", "absent.json"), "absent.json does not exist"),
    ],
)
def test_what_rows_do_not_have_is_refused_in_one_line(folder: Path, flags: tuple[object, ...], message: str):
    decoding = () if "--DECODING" in flags else ("--DECODING", "sample")
    said = call("sample.py", "--EXPERIMENT_NAME", "lm", *decoding, *places(folder), *flags, expect=2).stderr
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ('"a < b"', "holds no list"),
        ('{"a": 1}', "entry 1: expected an object"),
        ("[1]", "entry 1: expected an object"),
        ('[{"inequality": "age ? price"}]', "entry 1: write an inequality"),
        ('[{"inequality": "age < day"}]', "needs two numbers"),
        ('[{"inequality": "agee < price"}]', "there is no column 'agee'"),
        ('[{"unique": []}]', "unique must be"),
        ('[{"unique": "id"}, {"formula": "total = __import__(1)"}]', "entry 2: a formula has"),
        ('[{"formula": "total = price ** 2"}]', "a formula has"),
        ('[{"formula": "total = city + 1"}]', "a formula needs numbers"),
        ('[{"formula": "total = price"}, {"formula": "price = total"}]', "need each other"),
        ('[{"formula": "total = price", "new": true}]', "'new' means nothing"),
        ('[{"where": "age > 99"}]', "entry 1: --WHERE: no value"),
        ("[{", "cannot be read"),
    ],
)
def test_damaged_constraints_are_refused_in_one_line(folder: Path, rules: str, message: str):
    (folder / "damaged.json").write_text(rules)
    flags = ("--DECODING", "sample", "--CONSTRAINTS", folder / "damaged.json")
    said = call("sample.py", "--EXPERIMENT_NAME", "lm", *places(folder), *flags, expect=2).stderr
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_a_shared_model_says_what_it_lacks_and_its_card_shows_what_it_can(folder: Path, tmp_path: Path):
    (tmp_path / "rules.json").write_text('[{"unique": ["city"], "new": true}]')
    for name in ("lm", "nvib"):
        load_experiment(next((folder / "outputs").glob(f"*/{name}")), folder / "data").save_pretrained(tmp_path / name)
        model = from_pretrained(tmp_path / name)
        with pytest.raises(UserError, match="a shared model does not hold its data"):
            model.generate(2, decoding="sample", constraints=str(tmp_path / "rules.json"))
        card = (tmp_path / name / "README.md").read_text()
        assert "may equal one of theirs by chance" in card and "old king" not in card
        assert ("model.reconstruct(" in card) == ("vectors in the middle" in card) == (name == "nvib")
    a, b = model.generate(2, seed=1)
    assert len(model.reconstruct([a])) == 1 and len(model.interpolate(a, b, steps=3)) == 3


def test_a_text_that_is_no_row_is_refused_with_the_reason(folder: Path):
    model = load_experiment(next((folder / "outputs").glob("*/nvib")), folder / "data")
    with pytest.raises(UserError, match="'hello world' is no row of the table; a row has the form 'id is"):
        model.reconstruct(["hello world"])
    (text,) = model.generate(1, seed=1, where="city = Bern")
    with pytest.raises(UserError, match="has 'Genf' in the column 'city', which has no such value"):
        model.reconstruct([text.replace("Bern", "Genf")])


def test_the_explorer_shows_samples_of_rows(folder: Path):
    model = load_experiment(next((folder / "outputs").glob("*/nvib")), folder / "data")
    assert sampled_rows(model, 3, 20, 1) == model.generate(3, 1)


def test_conditions_are_for_rows_with_tokens_of_their_own(folder: Path):
    rows = ("--DATA", folder / "own.csv", "--ROW_TEMPLATE", "--TOKENIZER", "bpe", "--NAME", "text")
    call("prepareDatasets.py", *rows, "--DATA_DIR", folder / "data")
    small = ("--DIM_H", 16, "--MAX_STEPS", 2, "--BATCH_SIZE", 16)
    call("train.py", "--EXPERIMENT_NAME", "old", "--MODEL", "LM", "--DATA", "text", *small, *places(folder))
    flags = ("--EXPERIMENT_NAME", "old", *places(folder), "--WHERE", "age > 30")
    assert "--TOKENIZER table" in call("sample.py", *flags, expect=2).stderr
    flags = ("--EXPERIMENT_NAME", "old", *places(folder), "--BALANCE", "city")
    assert "--BALANCE is for the rows of a table" in call("sample.py", *flags, expect=2).stderr


def test_a_table_s_tokenizer_needs_rows(folder: Path):
    flags = (
        "--DATA",
        folder / "own.csv",
        "--TEXT_COLUMN",
        "note",
        "--TOKENIZER",
        "table",
        "--DATA_DIR",
        folder / "data",
    )
    assert "add --ROW_TEMPLATE" in call("prepareDatasets.py", *flags, expect=2).stderr


def test_a_shared_model_of_rows_samples_under_conditions(folder: Path):
    trained = load_experiment(next((folder / "outputs").glob("*/lm")), data_dir=folder / "data")
    asked: dict[str, Any] = {"decoding": "sample", "where": "city = Bern and age > 30"}
    texts = trained.generate(5, 1, **asked)
    trained.save_pretrained(folder / "shared")
    assert "row_tokenizer.json" in {path.name for path in (folder / "shared").iterdir()}
    again = from_pretrained(folder / "shared").generate(5, 1, **asked)
    for text in (*texts, *again):
        assert "city is Bern" in text
    # A shared model does not know which identifiers are taken; all else is the same.
    without = [[re.sub(r"id is A-\d{4}|id is [A-Z]-\d{4}", "", text) for text in some] for some in (texts, again)]
    assert without[0] == without[1]
    (folder / "shared" / "row_tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        from_pretrained(folder / "shared")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared table of identifiers of all kinds and long texts, and a briefly trained model."""
    found = tmp_path_factory.mktemp("people")
    with open(found / "people.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "mail", "phone", "remark", "case"])
        for number in range(150):
            mail = f"{'abcdefghij'[: 3 + number % 7]}{number}@{'uni' * (1 + number % 2)}.org"
            case = (f"C/{number:05d}", "NA", "", "")[number % 4]
            remark = f"{number} " + "[0:id] long 🎉 remark " * (number % 9)
            writer.writerow([f"P{number:05d}", mail, f"+41 44 {100 + number} {10 + number % 80} 05", remark, case])
    call("prepareDatasets.py", "--DATA", found / "people.csv", "--ROW_TEMPLATE", "--DATA_DIR", found / "data")
    small = ("--DIM_H", 16, "--MAX_STEPS", 40, "--BATCH_SIZE", 16, "--LEARNING_RATE", 0.02)
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", "--DATA", "people", *small, *places(found))
    return found


def test_addresses_and_telephone_numbers_are_new_ones(people: Path):
    rows = sampled(people, "lm")
    with open(people / "people.csv", newline="") as file:
        known = list(csv.DictReader(file))
    assert len(rows) == 40
    for name, form in (("mail", r"[a-z]{3,9}\d+@(uni){1,2}\.org"), ("phone", r"\+41 44 \d{3} \d\d \d\d")):
        assert all(re.fullmatch(form, row[name]) for row in rows)
        assert not {row[name] for row in rows} & {row[name] for row in known}
        assert len({row[name] for row in rows}) == 40


@pytest.mark.parametrize("condition", ["is not missing", "!= P00003"])
def test_identifiers_that_are_not_asked_for_stay_new_under_a_condition(people: Path, condition: str):
    rows = sampled(people, "lm", "--WHERE", f"id {condition}")
    assert len({row["id"] for row in rows if re.fullmatch(r"P\d{5}", row["id"])}) == 40


def test_an_identifier_is_missing_where_the_model_draws_it_so(people: Path):
    cases = [row["case"] for row in sampled(people, "lm")]
    made = [case for case in cases if case not in ("", "NA")]
    assert {"", "NA"} <= set(cases) and len(set(made)) == len(made)
    assert all(re.fullmatch(r"C/\d{5}", case) for case in made)
    assert not {"", "NA"} & {row["case"] for row in sampled(people, "lm", "--WHERE", "case is not missing")}
    assert {row["case"] for row in sampled(people, "lm", "--WHERE", "case is missing")} == {"", "NA"}
    assert "" not in {row["remark"] for row in sampled(people, "lm")}


@pytest.mark.parametrize("name", ["id", "remark"])
def test_a_missing_text_is_refused_where_the_data_have_none(people: Path, name: str):
    flags = ("--EXPERIMENT_NAME", "lm", "--DECODING", "sample", *places(people), "--WHERE", f"{name} is missing")
    assert f"no value of column '{name}' satisfies" in call("sample.py", *flags, expect=2).stderr


def test_a_row_keeps_the_label_that_it_was_drawn_with_under_a_condition(tmp_path: Path):
    """The label decides the size: small ones have a, large ones b, and under a condition most rows have b."""
    with open(tmp_path / "own.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "size", "city"])
        for number in range(600):
            writer.writerow(["ab"[number % 2], number * 7 % 50 + 50 * (number % 2), ("Bern", "Chur")[number % 3 == 0]])
    own = ("--DATA", tmp_path / "own.csv", "--ROW_TEMPLATE", "--LABEL_COLUMN", "group")
    call("prepareDatasets.py", *own, "--DATA_DIR", tmp_path / "data")
    small = ("--DIM_H", 32, "--MAX_STEPS", 200, "--LEARNING_RATE", 0.01, "--BATCH_SIZE", 32)
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", "--DATA", "own", *small, *places(tmp_path))
    rows = sampled(tmp_path, "lm", "--WHERE", "size > 40")
    assert all(int(row["size"]) > 40 for row in rows)
    assert sum((int(row["size"]) >= 50) == (row["group"] == "b") for row in rows) >= 36
    assert sum(row["group"] == "b" for row in rows) > 25


def test_conditions_on_texts_of_different_lengths_are_weighed_together(people: Path):
    """Rows that have ended before the others have all their columns with a condition stay candidates."""
    rows = sampled(people, "lm", "--WHERE", "remark is not missing and remark != '1 '")
    assert len(rows) == 40
    assert all(row["remark"] for row in rows)


def test_a_shared_model_makes_addresses_and_numbers_without_those_of_the_data(people: Path):
    trained = load_experiment(next((people / "outputs").glob("*/lm")), data_dir=people / "data")
    trained.save_pretrained(people / "shared")
    texts = from_pretrained(people / "shared").generate(20, 1, decoding="sample")
    assert len({re.findall(r"mail is [a-z]{8}@example\.com, phone is \+99 99\d ", text)[0] for text in texts}) == 20


def test_a_learned_prior_imagines_rows(folder: Path):
    call("train_prior.py", "--EXPERIMENT_NAME", "nvib", "--FROM", "lm", *places(folder))
    rows = sampled(folder, "nvib", "--PRIOR", "learned")
    assert len(rows) == 40
    assert list(rows[0]) == COLUMNS
    imagined = [
        json.loads(line)["imagined"]
        for line in next((folder / "outputs").glob("*/nvib/samples.jsonl")).read_text().splitlines()
    ]
    assert all(text.startswith("id is ") and "; total is" in text.replace(", total", "; total") for text in imagined)
    (folder / "where.json").write_text(json.dumps({"where": "age > 30"}))
    flags = ("--PRIOR", "learned", "--CONSTRAINTS", folder / "where.json")
    with pytest.raises(AssertionError, match="--CONSTRAINTS has conditions"):
        sampled(folder, "nvib", *flags)
