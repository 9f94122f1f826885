"""Rows of a table as data frames of numbers, dates and categories, for comparisons of tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.column_survey import MISSING
from pipeline.data.date_format import form_of
from pipeline.data.number_format import NumberFormat

NUMBER, DATE, CATEGORY = "numerical", "datetime", "categorical"  # words of SDMetrics
MICROSECONDS = 86_400e6  # of a day
LARGEST = 1e150  # number whose square a float still holds; larger ones, which a file may have, count as it
RARE = 20  # values of a column that may all be outside a fold
KINDS = {
    "integer": NUMBER,
    "number": NUMBER,
    "date": DATE,
    "date-time": DATE,
    "time": NUMBER,
    "category": CATEGORY,
    "boolean": CATEGORY,
    "mixed": CATEGORY,
}


@dataclass(frozen=True)
class TableTypes:
    """Columns of a table that are compared, with their kinds.

    Args:
        kinds: `numerical`, `datetime` or `categorical`, by column.
        left_out: columns without one of these kinds, such as text and identifiers.
        descriptions: types of all columns, as `ColumnSurvey` describes them.
    """

    kinds: dict[str, str]
    left_out: list[str]
    descriptions: Mapping[str, Any]

    @staticmethod
    def of(descriptions: Mapping[str, Any]) -> "TableTypes":
        """Choose the kinds from the descriptions of the columns."""
        kinds = {name: KINDS[one["kind"]] for name, one in descriptions.items() if one["kind"] in KINDS}
        kinds = {
            name: kind
            for name, kind in kinds.items()
            if descriptions[name]["kind"] != "mixed" or "values" in descriptions[name]
        }
        return TableTypes(kinds, [name for name in descriptions if name not in kinds], descriptions)

    def frame(self, rows: Iterable[Mapping[str, str]]) -> pd.DataFrame:
        """Return rows of spelled values as numbers, dates and categories; NaN, NaT and None where one is missing."""
        found = list(rows)
        return pd.DataFrame({name: self._column(name, [row[name] for row in found]) for name in self.kinds})

    def _column(self, name: str, values: list[str]) -> pd.Series:
        description, kind = self.descriptions[name], self.kinds[name]
        if kind == CATEGORY:
            return pd.Series([value if value else None for value in values], dtype=object)
        if kind == DATE or description["kind"] == "time":
            form = form_of(description["form"])
            if kind == DATE:
                keys = [form.comparable(value) for value in values]  # in UTC, where they have zones
                # Nanoseconds, the unit of pandas.to_datetime, hold the years 1678 to 2261 alone.
                return pd.Series(np.array(keys, dtype="datetime64[us]"))
            keys = [None if (read := form.read(value)) is None else read[0] for value in values]
            return pd.Series(pd.to_timedelta(pd.Series(keys)).dt.total_seconds())
        number = NumberFormat.from_json(description.get("format") or {})
        return pd.Series([_number(number, value) for value in values], dtype=float)

    def with_large_numbers(self, *frames: pd.DataFrame) -> list[str]:
        """Return the columns of numbers in which any frame has one that counts as `LARGEST`."""
        numbers = [name for name, kind in self.kinds.items() if kind == NUMBER]
        return [name for name in numbers if any((frame[name].abs() >= LARGEST).any() for frame in frames)]

    def metadata(self) -> dict[str, Any]:
        """Return the columns of `with_days` as SDMetrics takes them."""
        return {
            "columns": {name: {"sdtype": NUMBER if kind == DATE else kind} for name, kind in self.kinds.items()},
        }

    def with_days(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with its dates as days since 1970, since SDMetrics takes no dates before 1678."""
        dates = [name for name, kind in self.kinds.items() if kind == DATE]
        return frame.assign(**{name: _days(frame[name]) for name in dates})


def _days(dates: Any) -> np.ndarray:
    """Return a column of dates as days since 1970, NaN where one is missing."""
    times = dates.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64) / MICROSECONDS)


def _number(form: NumberFormat, value: str) -> float:
    if not value or value in MISSING:
        return np.nan
    try:
        read = form.read(value)
    except ValueError:
        return np.nan
    return float(min(max(read, -LARGEST), LARGEST))  # compared first: an integer may be too large for a float


def features(frame: pd.DataFrame, types: TableTypes, like: pd.DataFrame) -> pd.DataFrame:
    """Return a table as features of a classifier: categories as codes, dates as days, missing values as NaN.

    Args:
        frame: table of `TableTypes.frame`.
        types: kinds of its columns.
        like: table whose categories get the codes; other categories have one code more.
    """
    found: dict[str, Any] = {}
    for name, kind in types.kinds.items():
        if name not in frame:
            continue
        if kind == CATEGORY:
            codes = {value: code for code, value in enumerate(sorted(like[name].dropna().unique()))}
            found[name] = [np.nan if value is None else codes.get(value, len(codes)) for value in frame[name]]
        elif kind == DATE:
            found[name] = _days(frame[name])
        else:
            found[name] = frame[name].to_numpy(dtype=float)
    return pd.DataFrame(found)


def known_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the features that boosted trees take.

    They refuse a column without any value, in a fold as well. Columns without values are left out. Where a column has
    few, a number below them stands for the missing ones, and the trees tell it from the others as well.
    """
    known = table.dropna(axis=1, how="all")
    rare = known.loc[:, known.notna().sum() <= RARE]
    return known.assign(**{str(name): column.fillna(column.min() - 1) for name, column in rare.items()})
