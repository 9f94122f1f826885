"""Spelling of numbers: what occurs is kept, and a new number is written as its column's numbers are."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.data.number_format import FormatSurvey, NumberFormat, decimal_of, exact
from pipeline.data.number_spelling import THOUSANDS, parse


def format_of(*texts: str, decimal: str = ".") -> NumberFormat:
    """Return the format of a column of these numbers, after its way through JSON."""
    survey = FormatSurvey(decimal)
    survey.look(texts)
    assert all(survey.add(text) is not None for text in texts)
    return NumberFormat.from_json(survey.found().to_json())


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("040.10", ".", "40.10"),
        ("-0", ".", "0"),
        ("+5", ".", "5"),
        (".5", ".", "0.5"),
        ("5.", ".", "5"),
        ("9e-06", ".", "0.000009"),
        ("1.5E+3", ".", "1500"),
        ("12345678901234567.25", ".", "12345678901234567.25"),
        ("$5,497.20", ".", "5497.20"),
        ("-$5.00", ".", "-5"),
        ("$-5.00", ".", "-5"),
        ("US$ 7", ".", "7"),
        ("EUR 7.50", ".", "7.50"),
        ("7,50 €", ",", "7.50"),
        ("7,50\u00a0€", ",", "7.50"),
        ("12 %", ".", "12"),
        ("3‰", ".", "3"),
        ("1.234,50", ",", "1234.50"),
        ("1 234 567,5", ",", "1234567.5"),
        ("1\u202f234,5", ",", "1234.5"),
        ("1'234.50", ".", "1234.50"),
        ("−3", ".", "-3"),
        ("(5.00)", ".", "-5"),
        ("($1,234.50)", ".", "-1234.50"),
        ("(12 %)", ".", "-12"),
        ("(3,5 €)", ",", "-3.5"),
        ("54 kg", ".", "54"),
        ("1,200km", ".", "1200"),
        ("-7.5 °C", ".", "-7.5"),
        ("72,5 mg/dL", ",", "72.5"),
        ("5 m", ".", "5"),
    ],
)
def test_numbers_are_read_with_their_marks_units_and_signs(text: str, decimal: str, value: str):
    found = parse(text, decimal)
    assert found is not None
    assert found.value == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        ".",
        "$",
        "%",
        "e5",
        "1,23",
        "1,2345",
        "1,234 567",
        "12 34",
        "--5",
        "-$-5",
        "1_000",
        "٣",
        "0x1F",
        "inf",
        "(-5)",
        "-(5)",
        "((5))",
        "(5",
        "5)",
        "()",
        "(a)",
    ],
)
def test_strings_that_resemble_a_number_are_none(text: str):
    assert parse(text) is None


@pytest.mark.timeout(10)
def test_a_long_text_is_read_in_no_time():
    for text in (" " * 10**6 + "x", "1," * 10**6, "$" * 10**6):
        assert parse(text) is parse(text, ",") is None
    digits = "7" * 10**6
    assert parse(digits) is not None
    assert parse(f"-{digits}.50") is not None


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "ABC123",
        "SKU-0001",
        "A1",
        "1.2.3",
        "5 kilos",
        "5m",
        "12A",
        "5 kg m",
        "1e99999999",
        "2020-01-01",
        "10:24",
        "1.5\n",
    ],
)
def test_names_dates_and_other_words_are_no_numbers(text: str):
    assert parse(text) is None


@pytest.mark.parametrize(
    ("seen", "value", "expected"),
    [
        (["250.00", "40.10"], "7.5", "7.50"),
        (["250.00", "40.10"], "7.123", "7.12"),
        (["250.0", "40.125"], "7", "7.0"),
        (["001", "417"], "23", "023"),
        (["040.10", "250.25"], "7.5", "007.50"),
        (["1,234,567", "12"], "1234", "1,234"),
        (["1234567", "12"], "1234", "1234"),
        (["$5,497.20", "$1.00"], "1000.5", "$1,000.50"),
        (["-$5.00", "$1.00"], "-1", "-$1.00"),
        (["$-5.00", "$1.00"], "-1", "$-1.00"),
        (["€ 5", "€ 7"], "6", "€ 6"),
        (["12 %", "3 %"], "7", "7 %"),
        (["+5", "-5", "0"], "3", "+3"),
        (["+5", "-5", "0"], "0", "0"),
        (["+5", "-5", "3"], "4", "4"),
        (["−5", "3"], "-4", "−4"),
        ([".5", ".25"], "0.75", ".75"),
        (["5.", "7."], "6", "6."),
        (["9e-06", "2e-05"], "0.00001", "1e-05"),
        (["9E-6", "2E-5"], "0.00001", "1E-5"),
        (["1.5e+10", "2.25e+10"], "1.75e10", "1.75e+10"),
        (["0.5199", "3.25e-06"], "0.0001", "0.0001"),
        (["0.5199", "3.25e-06"], "0.000012", "1.20e-05"),
        (["1.5", "1e+300"], "1e200", "1e+200"),
        (["1.5", "-0.5"], "-0.01", "0.0"),
        (["(5.00)", "1,250.00"], "-1234.5", "(1,234.50)"),
        (["($5.00)", "$1.00"], "-1", "($1.00)"),
        (["(5.00)", "1.00"], "-0.001", "0.00"),
    ],
)
def test_a_new_number_has_the_format_of_its_column(seen: list[str], value: str, expected: str):
    found = format_of(*seen)
    assert found.write(Decimal(value)) == expected
    assert found.fits(expected)
    assert all(map(found.fits, seen))


def test_decimal_commas_have_points_or_spaces_between_thousands():
    assert format_of("1.234,50", "2,00", decimal=",").write(Decimal("9876.5")) == "9.876,50"
    assert format_of("1\u00a0234,50 €", "2,00 €", decimal=",").write(Decimal("9876.5")) == "9\u00a0876,50 €"
    assert format_of("1234,5", "2,0", decimal=",").write(Decimal("9876.5")) == "9876,5"


@pytest.mark.parametrize(
    ("seen", "other"),
    [
        (["250.00"], "250.0"),
        (["250.00"], "250"),
        (["5"], "+5"),
        (["5"], "005"),
        (["005"], "5"),
        (["1,234"], "$1,234"),
        (["$5"], "5"),
        (["0.5"], ".5"),
        (["5.0"], "5."),
        (["1e-05"], "1e-5"),
        (["1e-05"], "1E-05"),
        (["5"], "5e0"),
        (["+5", "-3"], "4"),
    ],
)
def test_another_spelling_of_a_number_does_not_fit(seen: list[str], other: str):
    assert not format_of(*seen).fits(other)


def test_a_plain_number_is_read_where_the_column_has_marks_and_units():
    money = format_of("$5,497.20", "$1.00")
    assert money.read("12.5") == Decimal("12.5")
    euro = format_of("1,5", "2,25", decimal=",")
    assert (euro.read("1.25"), euro.read("1,25")) == (Decimal("1.25"), Decimal("1.25"))
    with pytest.raises(ValueError, match="no number"):
        money.read("a dollar")


def test_most_of_the_first_numbers_decide_on_the_thousands_mark():
    survey = FormatSurvey(".")
    texts = ["1 234", "1,234", "2,345,678", "12"]
    survey.look(texts)
    assert [survey.add(text) is not None for text in texts] == [False, True, True, True]


def test_more_units_than_a_few_make_no_column_of_numbers():
    survey = FormatSurvey(".")
    assert [survey.add(f"{unit}5") is not None for unit in ("$", "€", "£", "¥", "₹", "$")] == [True] * 4 + [False, True]


@pytest.mark.parametrize("other", ["500 g", "12 lb", "7 %", "9 €", "$3"])
def test_numbers_in_two_units_of_measurement_make_no_column_of_numbers(other: str):
    survey = FormatSurvey(".")
    assert [survey.add(text) is not None for text in ("5 kg", other, "6kg")] == [True, False, True]
    survey = FormatSurvey(".")
    assert [survey.add(text) is not None for text in (other, "5 kg")] == [True, False]


@pytest.mark.parametrize(
    "text", ["0", "-7", "2.5", "12345678901234567.25", "1e-7", "1e40", "123456789012345678901", "1e-400"]
)
def test_ends_of_a_range_are_exact_in_json(text: str):
    assert decimal_of(exact(Decimal(text))) == Decimal(text)


def test_a_stored_end_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="'many' is no number"):
        decimal_of("many")


DIGITS = st.text("0123456789", max_size=9)
EXPONENTS = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "-", "+"]), st.integers(0, 320))


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a decimal mark, and numbers with a few marks, units and signs."""
    decimal = draw(st.sampled_from(sorted(THOUSANDS)))
    thousands = draw(st.sampled_from(["", *THOUSANDS[decimal]]))
    before = draw(st.lists(st.sampled_from(["", "$", "€ ", "CHF ", " "]), min_size=1, max_size=3))
    behind = draw(st.lists(st.sampled_from(["", "%", " %", " €", " kg"]), min_size=1, max_size=3))
    texts = []
    for _ in range(draw(st.integers(1, 8))):
        whole = draw(st.one_of(DIGITS, st.integers(0, 10**9).map(str)))
        if thousands and whole and draw(st.booleans()):
            whole = f"{int(whole):,}".replace(",", thousands)
        mark = draw(st.one_of(st.just(""), DIGITS.map(lambda digits: decimal + digits)))
        sign, unit = draw(st.sampled_from(["", "", "-", "+", "−"])), draw(st.sampled_from(before))
        exponent = draw(st.one_of(st.just(""), st.just(""), EXPONENTS))
        head = sign + unit if draw(st.booleans()) else unit + sign
        text = head + whole + mark + exponent + draw(st.sampled_from(behind))
        texts.append(f"({text})" if not sign and draw(st.integers(0, 3)) == 0 else text)
    return decimal, texts


@given(columns(), st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=1, places=12))
def test_each_number_seen_fits_and_each_number_written_fits_and_is_the_rounded_one(
    column: tuple[str, list[str]], share: Decimal
):
    decimal, texts = column
    survey = FormatSurvey(decimal)
    survey.look(texts)
    seen = [text for text in texts if survey.add(text) is not None]
    values = [found.value for text in seen if (found := parse(text, decimal)) is not None]
    assume(seen and survey.consistent())
    found = NumberFormat.from_json(survey.found().to_json())
    for text, value in zip(seen, values, strict=True):
        assert found.fits(text)
        assert found.read(text) == value
        written = found.write(value)
        assert found.fits(written)
    new = min(values) + (max(values) - min(values)) * share
    written = found.write(new)
    assert found.fits(written)
    read = parse(written, decimal)
    assert read is not None
    ends = found.mantissa if read.exponent else found.decimals
    unit = Decimal(1).scaleb((new.adjusted() if read.exponent and new else 0) - ends[1])
    assert abs(read.value - new) <= unit / 2 or abs(read.value - new) <= abs(new) * Decimal("1e-25")
