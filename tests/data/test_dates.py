"""Columns of dates, times and date-times: their form, their range, and dates that leave the form open."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_type import Counts
from pipeline.data.column_types import ColumnTypes, RejectedError
from pipeline.data.date_column import DateColumn
from pipeline.data.date_format import form_of, forms


def described(*values: str) -> dict[str, Any]:
    """Return the description of a column of a file of text, after its way through JSON."""
    survey = ColumnSurvey(spelt=True)
    for line, value in enumerate(values, 2):
        survey.see({"when": value}, line)
    return json.loads(json.dumps(survey.to_json()))["when"]


@pytest.mark.parametrize(
    ("text", "picture", "key"),
    [
        ("2020-01-31", "YYYY-MM-DD", "2020-01-31"),
        ("2020/1/3", "YYYY/MM/DD", "2020-01-03"),
        ("31.01.2020", "DD.MM.YYYY", "2020-01-31"),
        ("31/01/2020", "DD/MM/YYYY", "2020-01-31"),
        ("01/31/2020", "MM/DD/YYYY", "2020-01-31"),
        ("31.01.68", "DD.MM.YY", "2068-01-31"),
        ("31.01.69", "DD.MM.YY", "1969-01-31"),
        ("31 Jan 2020", "DD Mon YYYY", "2020-01-31"),
        ("31-Jan-20", "DD-Mon-YY", "2020-01-31"),
        ("January 31, 2020", "Month DD, YYYY", "2020-01-31"),
        ("10:24", "hh:mm", "10:24:00"),
        ("10:24:05.250", "hh:mm:ss.fff", "10:24:05.250"),
        ("12:05 am", "hh:mm am", "00:05:00"),
        ("9:05 P.M.", "hh:mm am", "21:05:00"),
        ("10:24:05Z", "hh:mm:ssZ", "10:24:05"),
        ("2020-01-31 10:24", "YYYY-MM-DD hh:mm", "2020-01-31T10:24:00"),
        ("2020-01-31T10:24:05Z", "YYYY-MM-DDThh:mm:ssZ", "2020-01-31T10:24:05"),
        ("2020-01-31T10:24:05.123456+01:00", "YYYY-MM-DDThh:mm:ss.fff+zz:zz", "2020-01-31T10:24:05.123456"),
        ("2020-01-31 10:24:05-0500", "YYYY-MM-DD hh:mm:ss+zzzz", "2020-01-31T10:24:05"),
        ("2020-01-31 10:24:05+00", "YYYY-MM-DD hh:mm:ss+zz", "2020-01-31T10:24:05"),
        ("2020-01-31 10:24:05 UTC", "YYYY-MM-DD hh:mm:ss UTC", "2020-01-31T10:24:05"),
        ("1/31/2020 9:05 AM", "MM/DD/YYYY hh:mm am", "2020-01-31T09:05:00"),
        ("31.01.2020, 10:24", "DD.MM.YYYY, hh:mm", "2020-01-31T10:24:00"),
    ],
)
def test_a_date_has_a_form_and_a_key_that_sorts(text: str, picture: str, key: str):
    assert list(forms(text)) == [picture]
    read = form_of(picture).read(text)
    assert read is not None
    assert read[0] == key
    assert form_of(picture).spaced("".join(text.split())) == text


@pytest.mark.parametrize(
    "text",
    ["2020-02-30", "2020-13-01", "25:00", "10:61", "13:05 pm", "0:05 am", "32.01.2020", "31 Foo 2020", "2020-00-10"],
)
def test_a_date_that_there_is_not_is_none(text: str):
    assert list(forms(text)) == []


@pytest.mark.parametrize(
    "text", ["2020-01-01x", "12.50", "٢٠٢٠-01-01", "2020", "20200131", "10:24\n", "--", "", "4-5", "1.2.3"]
)
def test_other_strings_are_no_dates(text: str):
    assert list(forms(text)) == []


def test_day_and_month_are_told_apart_by_the_whole_column_or_reported():
    unclear = described("01/02/2020", "03/04/2020")
    assert (unclear["form"], unclear["or"]) == ("DD/MM/YYYY", ["MM/DD/YYYY"])
    for day_first in (["01/02/2020", "25/02/2020"], ["25/02/2020", "01/02/2020"]):
        assert (described(*day_first)["form"], described(*day_first).get("or")) == ("DD/MM/YYYY", None)
    assert described("01/02/2020", "02/25/2020")["form"] == "MM/DD/YYYY"
    # One odd date does not decide on the others.
    days = [f"{day}/01/2020" for day in range(1, 29)]
    found = described("01/31/2020", *days)
    assert (found["form"], found["outliers"]) == ("DD/MM/YYYY", [["01/31/2020", 2, 1]])


def test_a_new_date_has_the_form_and_lies_in_the_range():
    found = described("2020-01-31 00:00:00", "2020-03-05 12:30:00", "NA")
    assert {key: found[key] for key in ("kind", "form", "low", "high", "missing")} == {
        "kind": "date-time",
        "form": "YYYY-MM-DD hh:mm:ss",
        "low": "2020-01-31T00:00:00",
        "high": "2020-03-05T12:30:00",
        "missing": ["NA"],
    }
    types = ColumnTypes({"when": found})
    assert types.value("when", "2020-02-29 23:59:59") == "2020-02-29 23:59:59"
    assert types.value("when", "NA") == "NA"
    for text, reason in [
        ("2020-02-30 00:00:00", "is no date-time of the form YYYY-MM-DD hh:mm:ss"),
        ("2020-2-1 00:00:00", "is no date-time of the form"),
        ("2020-02-01", "is no date-time of the form"),
        ("2021-01-01 00:00:00", "lies outside 2020-01-31T00:00:00 to 2020-03-05T12:30:00"),
    ]:
        with pytest.raises(RejectedError, match=f"column 'when': '{text}' {reason}"):
            types.value("when", text)


def test_one_digit_days_are_spelled_as_in_the_column():
    single, padded = described("1.2.2020", "9.9.2020"), described("01.02.2020", "09.09.2020")
    open_one = described("11.10.2020", "12.12.2020")
    for found, accepted, refused in [(single, "3.3.2020", "03.03.2020"), (padded, "03.03.2020", "3.3.2020")]:
        types = ColumnTypes({"when": found})
        assert types.value("when", accepted) == accepted
        with pytest.raises(RejectedError):
            types.value("when", refused)
    assert ColumnTypes({"when": open_one}).value("when", "01.12.2020") == "01.12.2020"
    with pytest.raises(RejectedError):
        ColumnTypes({"when": open_one}).value("when", "1.12.2020")


def test_times_sort_by_the_hour_of_the_day():
    found = described("9:05 PM", "12:01 AM", "1:30 AM")
    assert (found["kind"], found["low"], found["high"]) == ("time", "00:01:00", "21:05:00")
    with pytest.raises(RejectedError):  # in small letters nowhere else
        ColumnTypes({"when": found}).value("when", "9:05 am")


def test_a_date_whose_white_space_a_tokenizer_lost_is_found_again():
    lossy = ColumnTypes({"when": described("2020-01-31 00:00:00", "2020-03-05 12:30:00")}, lossless=False)
    assert lossy.value("when", "2020 - 02 - 01 00 : 00 : 00") == "2020-02-01 00:00:00"
    with pytest.raises(RejectedError):
        lossy.value("when", "2020 - 02 - 31 00 : 00 : 00")
    named = ColumnTypes({"when": described("Jan 31, 2020", "Mar 5, 2020")}, lossless=False)
    assert named.value("when", "Feb 11 , 2020") == "Feb 11, 2020"


def test_a_stored_column_of_dates_describes_itself_again():
    found = described("2020-01-31", "2020-03-05")
    del found["seen"]
    assert DateColumn.from_json(found).to_json() == found


@given(
    st.lists(st.datetimes(), min_size=1, max_size=30), st.sampled_from(["%Y-%m-%d", "%d.%m.%Y %H:%M", "%H:%M:%S.%f"])
)
def test_dates_of_every_year_have_a_form_and_are_in_their_range(dates: list, form: str):
    texts = [date.replace(year=date.year % 9000 + 1000).strftime(form) for date in dates]
    column = DateColumn()
    column.look(texts)
    assert all(map(column.add, texts))
    assert column.fits(Counts(len(texts), len(set(texts))))
    assert [column.value(text) for text in texts] == texts
