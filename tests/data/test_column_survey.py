"""Survey of a table: types, outliers, forced types and the report; every value comes back with its type."""

import itertools
import json
import math
import random
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.column_survey import FIRST, OUTLIERS, ColumnSurvey, outliers
from pipeline.data.column_types import CATEGORIES, ColumnTypes, RejectedError
from pipeline.data.column_types import MANY_CATEGORIES as MANY
from pipeline.runtime.errors import UserError


def described(values: list[Any], spelt: bool = False, wanted: str | None = None) -> dict[str, Any]:
    """Return the description of a column of these values, from line 2 on, after its way through JSON."""
    survey = ColumnSurvey(spelt, {} if wanted is None else {"c": wanted})
    for line, value in enumerate(values, 2):
        survey.see({"c": value}, line)
    return json.loads(json.dumps(survey.to_json()))["c"]


def comes_back(values: list[Any], spelt: bool = False, wanted: str | None = None) -> dict[str, Any]:
    """Check that each value is read back from its spelling; return the description of the column."""
    found = described(values, spelt, wanted)
    types = ColumnTypes({"c": found})
    for value in values:
        read = types.value("c", types.spelling("c", value))
        if spelt and value in (None, ""):
            assert read is None
        else:
            assert type(read) is type(value)
            assert read == value or (math.isnan(value) and math.isnan(read))
    return found


def money(number: int) -> str:
    return f"${number * 7919 % 1_000_000 / 100:,.2f}"


START = datetime(2020, 1, 1)
SHUFFLED = random.Random(5)
KINDS = {
    "date": ("date", lambda n: f"{START + timedelta(days=n):%Y-%m-%d}"),
    "German date": ("date", lambda n: f"{START + timedelta(days=n):%d.%m.%Y}"),
    "time": ("time", lambda n: f"{START + timedelta(seconds=29 * n):%H:%M:%S}"),
    "date-time": ("date-time", lambda n: f"{START + timedelta(minutes=421 * n):%Y-%m-%d %H:%M:%S}"),
    "date-time with zone": ("date-time", lambda n: f"{START + timedelta(minutes=421 * n):%Y-%m-%dT%H:%M:%S}+01:00"),
    "money": ("number", money),
    "decimal comma": ("number", lambda n: f"{n / 100:.2f}".replace(".", ",")),
    "per cent": ("number", lambda n: f"{n / 8} %"),
    "telephone": ("phone", lambda n: f"+49 30 {1234567 + 17 * n}"),
    "telephone of the US": ("phone", lambda n: f"(555) 010-{n:04d}"),
    "ZIP code": ("integer", lambda n: f"{7 * n:05d}"),
    "long ZIP code": ("identifier", lambda n: f"{10000 + 7 * n}-{1000 + n}"),
    "mail": ("e-mail", lambda n: f"p.o_{n}@mail-x.example.com"),
    "UUID": ("uuid", lambda n: str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n)))),
    "identifier": ("identifier", lambda n: f"SKU-{n:05d}"),
    "code of letters and digits": ("identifier", lambda n: f"AB{n}x"),
    "number with an exponent": ("number", lambda n: repr((n + 1) / 2**40)),
    "integer": ("integer", str),
}


@pytest.mark.parametrize("rows", [30, 3000])
@pytest.mark.parametrize("case", KINDS)
def test_the_type_of_a_column_does_not_depend_on_the_number_of_rows(case: str, rows: int):
    kind, spell = KINDS[case]
    assert comes_back([spell(n) for n in range(rows)], spelt=True)["kind"] == kind


@pytest.mark.parametrize(
    "values",
    [
        ["040.10"],
        ["040.10", "250.00", "250.0", "01.10"],
        ["01.10", "62.01"],
        ["4.50", "3.00", "4.5"],
        ["12345678901234567.25", "1.5"],
        ["-0", "+5", ".5", "5."],
        ["9e-06", "1e-05", "0.1"],
        ["0,01", "1,5"],
        ["$5,497.20", "$1.00"],
        ["12 %", "3 %"],
        ["1.234,50", "2,00"],
        ["1" * 400, "1"],
        ["0" * 50 + "1", "1" * 51],
        [" 5", "5 ", "5"],
    ],
)
def test_a_number_of_a_file_of_text_keeps_its_spelling(values: list[str]):
    comes_back(values, spelt=True)
    comes_back([*values, "NA", "", None], spelt=True)


@pytest.mark.parametrize("word", ["unknown", "1.2.3", "n.a.", "7 or 8", "5:30"])
def test_one_cell_that_is_no_number_is_an_outlier_with_its_line(word: str):
    found = comes_back([*map(str, range(15)), word, word, *map(str, range(15))], spelt=True)
    assert (found["kind"], found["low"], found["high"]) == ("integer", 0, 14)
    assert list(outliers({"n": found})) == [("n", "integer", word, 17, 2)]


def test_an_odd_first_cell_does_not_decide_on_the_column():
    dates = [f"2020-01-{day:02d}" for day in range(1, 30)]
    found = comes_back(["31/12/2019", *dates], spelt=True)
    assert (found["form"], found["outliers"]) == ("YYYY-MM-DD", [["31/12/2019", 2, 1]])
    grouped = [f"{number:,}" for number in range(1_000_000, 3_000_000, 70_001)]
    found = comes_back(["1 000 000", *grouped], spelt=True)
    assert (found["kind"], found["format"]["thousands"], found["outliers"]) == ("integer", ",", [["1 000 000", 2, 1]])


def test_the_decimal_mark_that_fits_more_of_the_column_is_chosen():
    found = comes_back([*(f"{number / 8:.3f}".replace(".", ",") for number in range(40)), "7.5"], spelt=True)
    assert (found["format"]["decimal"], found["outliers"]) == (",", [["7.5", 42, 1]])


def test_many_other_values_make_another_type():
    assert described([*map(str, range(40)), *"abcd"], spelt=True)["kind"] == "integer"
    assert described([*map(str, range(40)), *"abcde"], spelt=True)["kind"] == "text"
    words = [f"word {'x' * number}" for number in range(OUTLIERS + 1)]
    numbers = list(map(str, range(20 * OUTLIERS)))
    assert described([*numbers, *words[:-1]], spelt=True)["kind"] == "integer"
    assert described([*numbers, *words], spelt=True)["kind"] == "text"


def test_a_repeated_outlier_counts_each_time():
    assert described([*map(str, range(40)), *["unknown"] * 5], spelt=True)["kind"] == "text"


@pytest.mark.parametrize("other", [True, None, "", "x", math.nan, 2.5, -0.0])
def test_values_of_json_keep_their_types(other: Any):
    for values in (
        [1, "1"],
        [True, "True"],
        [1, True],
        [1.0, 1],
        ["", None],
        [math.nan, "nan"],
        ["null", None],
        ["NaN"],
    ):
        comes_back([*values, other])
        comes_back([*values, other] * 30)


def test_nan_is_no_missing_value():
    assert comes_back([math.nan, None, 1.5])["nan"]
    found = comes_back([math.nan, None])
    assert (found["kind"], found["low"], found["seen"]["missing"]) == ("number", None, 1)
    with pytest.raises(RejectedError, match="is not NaN"):
        ColumnTypes({"c": found}).value("c", "1.5")


def test_the_report_has_counts_form_range_and_examples():
    seen = described(["$1.50", "", "$7.25", "$1.50", "NA"] * 10, spelt=True)["seen"]
    assert seen == {
        "values": 40,
        "distinct": 3,
        "exactly": True,
        "missing": 10,
        "form": "$9.00",
        "range": "1.50 to 7.25",
        "examples": ["$1.50", "$7.25", "NA"],
    }
    assert described([-1, -2, 1, True])["seen"]["distinct"] == 4  # Python hashes -1 and -2, 1 and True alike
    assert described([float("nan"), float("nan"), 1.5])["seen"]["distinct"] == 2


def test_more_distinct_values_than_are_counted_are_estimated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.data.column_survey.COUNTED", 100)
    found = comes_back([*map(str, range(2000)), "unknown", "unknown"], spelt=True)
    assert (found["seen"]["distinct"], found["seen"]["exactly"]) == (2002, False)
    assert found["outliers"] == [["unknown", 2002, 2]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "text"),
        (["1", "2"], "category"),
        (["1", "2"], "number"),
        (["007", "417", "007"], "integer"),
        (["2020-01-01"], "text"),
        (["2020-01-01", "NA"], "date"),
        (["AB-1", "AB-1"], "identifier"),
        ([f"{n} words" for n in range(CATEGORIES)], "category"),
        ([None], "category"),
        ([None], "text"),
    ],
)
def test_a_type_that_the_user_names_is_the_column_s(values: list[str], kind: str):
    assert comes_back(values, spelt=True, wanted=kind)["kind"] == kind


def test_mixed_is_a_type_of_formats_with_types():
    assert comes_back(["a", 1, None, ""], spelt=False, wanted="mixed")["kind"] == "mixed"
    with pytest.raises(UserError, match=r"--COLUMN_TYPES c=mixed is for the types of JSON and Parquet"):
        comes_back(["a", ""], spelt=True, wanted="mixed")


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["1", "2", "x", "y"], "integer", "is no integer; line 4 holds 'x'"),
        (["1", "2.5"], "integer", "is no integer; line 3 holds '2.5'"),
        (["1", "2,5", "x"], "number", "is no number; line 4 holds 'x'"),
        (["007", "12"], "integer", "is no integer; line 3 holds '12'"),
        ([1, "2"], "number", "is no number; line 3 holds '2'"),
        ([1, math.nan], "integer", "is no integer; line 3 holds nan"),
        (["2020-01-01", "10:24"], "date", "is no date; line 3 holds '10:24'"),
        (["2020-01-01", "01.01.2020"], "date", "is no date; line 3 holds '01.01.2020'"),
        (["10:24"], "date", "is no date; line 2 holds '10:24'"),
        (["x"], "boolean", "is no boolean; line 2 holds 'x'"),
        (["a@b.de", "x"], "e-mail", "is no e-mail; line 3 holds 'x'"),
        ([1], "text", "is no text; line 2 holds 1"),
        ([None], "integer", "holds no integer"),
        (["NA"], "date", "holds no date"),
        ([f"w{n}" for n in range(MANY + 1)], "category", "over 10,000 different values; line 10002 holds 'w10000'"),
        ([None, "", "x"], "text", "holds null and empty texts, which only the type mixed keeps apart"),
    ],
)
def test_a_type_that_the_values_are_not_of_is_refused_with_the_line(values: list[Any], kind: str, message: str):
    with pytest.raises(UserError, match=f"--COLUMN_TYPES c={kind}: column 'c' .*{message}"):
        described(values, wanted=kind)


def test_a_type_of_an_unknown_column_is_refused():
    survey = ColumnSurvey(wanted={"d": "text"})
    survey.see({"c": "x"})
    with pytest.raises(UserError, match=r"names 'd', which is no column that is kept \(c\)"):
        survey.to_json()


DIGITS = st.text("0123456789.,-+ eE$%€'():/", max_size=12)
DATES = st.datetimes(datetime(1950, 1, 1), datetime(2060, 1, 1))
FORMS = ("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%y", "%d %b %Y", "%H:%M", "%I:%M %p", "%Y-%m-%dT%H:%M:%S.%fZ")
STRINGS = st.one_of(
    DIGITS,
    st.text(max_size=8),
    st.sampled_from(["", "NA", "nan", "NaN", "null", "True", "1", "01", "1.0", "x", "-0"]),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_infinity=False).map(repr),
    st.builds(lambda date, form: date.strftime(form), DATES, st.sampled_from(FORMS)),
)
NUMBERS = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_infinity=False))
ALIKE = st.sampled_from(
    [DIGITS, STRINGS, NUMBERS, st.booleans(), st.floats(allow_infinity=False), st.integers(-9, 9), st.text(max_size=3)]
).flatmap(lambda values: st.lists(values, min_size=1, max_size=40))
ODD = st.lists(st.one_of(STRINGS, NUMBERS, st.booleans(), st.none()), max_size=3)


@given(ALIKE, ODD, st.integers(1, 12))
def test_every_value_of_a_column_comes_back_from_its_spelling(alike: list[Any], odd: list[Any], times: int):
    """Values of one kind, repeated so that a few odd ones may be outliers."""
    comes_back([*alike * times, *odd])
    comes_back([*odd, *alike * times])


@given(st.lists(STRINGS, min_size=1, max_size=40), st.lists(STRINGS, max_size=3), st.integers(1, 12))
def test_every_cell_of_a_file_of_text_comes_back(alike: list[str], odd: list[str], times: int):
    comes_back([*odd, *alike * times], spelt=True)


@given(st.lists(st.builds(lambda date, form: date.strftime(form), DATES, st.sampled_from(FORMS[:4])), min_size=1))
def test_every_date_of_a_file_of_text_comes_back(dates: list[str]):
    comes_back(dates, spelt=True)


def test_values_after_the_first_ones_are_read_as_well():
    numbers = list(map(str, range(FIRST + 10)))
    found = comes_back([*numbers, "last"], spelt=True)
    assert (found["high"], found["outliers"]) == (FIRST + 9, [["last", FIRST + 12, 1]])
    assert described(list(itertools.islice(itertools.cycle("ab"), FIRST)))["values"] == ["a", "b"]
