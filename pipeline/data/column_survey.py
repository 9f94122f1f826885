"""Survey of a table: the type of each column, found from all its values, and a report of it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.data.column_type import ColumnType, Counts
from pipeline.data.column_types import CANDIDATES, KINDS, MANY_CATEGORIES, CategoryColumn, MixedColumn
from pipeline.runtime.errors import UserError

# The words that pandas, NumPy, R and spreadsheets write for a missing value.
MISSING = frozenset({"nan", "NaN", "NAN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "NULL", "null", "None"})
OUTLIERS = 20  # different strings of another type in a column at most
TOLERANCE = 10  # of so many values, one may be of another type
COUNTED = 100_000  # different values that are counted one by one; more of them are estimated
FIRST = 1000  # values that the types look at before they are added
EXAMPLES = 3
(MIXED,) = MixedColumn.kinds


class _Candidate:
    """A type that a column may have, and the strings of the column that are of no such type."""

    def __init__(self, column: ColumnType) -> None:
        self.column = column
        self.alive = True
        self.missing: set[str] = set()
        self.outliers: dict[str, list[int]] = {}  # first line and count
        self.refused: tuple[Any, int] | None = None  # the value that ended the candidate, and its line

    def add(self, value: Any, line: int) -> None:
        """Take a value into account; too many strings of another type end the candidate."""
        if not self.alive or self.column.add(value):
            return
        if self.column.tolerant and isinstance(value, str):
            if value in MISSING:
                self.missing.add(value)
                return
            if value in self.outliers or (self.column.wanted is None and len(self.outliers) < OUTLIERS):
                self.outliers.setdefault(value, [line, 0])[1] += 1
                return
        self.alive, self.refused = False, (value, line)

    def repeat(self, value: Any) -> None:
        """Count a value that was added before."""
        if self.outliers and (place := self.outliers.get(value)) is not None:
            place[1] += 1

    @property
    def others(self) -> int:
        """Number of values that are of another type."""
        return sum(count for _, count in self.outliers.values())


class _Column:
    """Survey of one column.

    Args:
        wanted: type that the user names, or None.
    """

    def __init__(self, wanted: str | None) -> None:
        self.wanted = wanted
        made = [candidate() for candidate in CANDIDATES]
        if wanted is not None:
            made = [column for column in made if isinstance(column, KINDS[wanted])]
            for column in made:
                column.wanted = wanted
        self.candidates = [_Candidate(column) for column in made]
        self.null = self.empty = 0
        self.examples: list[Any] = []
        self._first: list[tuple[Any, int, bool]] | None = []  # values that no candidate has yet
        self._values = 0
        self._distinct: set[int] = set()
        self._share: float | None = None  # of different values among the first ones

    def see(self, value: Any, line: int) -> None:
        """Take a value into account."""
        if value is None:
            self.null += 1
            return
        if value == "":
            self.empty += 1
            return
        self._values += 1
        repeated = self._share is None and self._count(value)
        if self._first is None:
            self._add(value, line, repeated)
            return
        self._first.append((value, line, repeated))
        if len(self._first) == FIRST:
            self.finish()

    def _count(self, value: Any) -> bool:
        """Count a different value; return True if it was seen before."""
        # Representations tell 1, 1.0 and True apart, and are equal for NaN.
        key = hash(value if isinstance(value, str) else ("", repr(value)))
        if key in self._distinct:
            return True
        self._distinct.add(key)
        if len(self.examples) < EXAMPLES:
            self.examples.append(value)
        if len(self._distinct) == COUNTED:
            self._share = COUNTED / self._values
        return False

    def _add(self, value: Any, line: int, repeated: bool) -> None:
        """Give a value to all candidates, and drop those that it ends."""
        ended = False
        for candidate in self.candidates:
            if repeated:
                candidate.repeat(value)
            else:
                candidate.add(value, line)
                ended = ended or not candidate.alive
        if ended and self.wanted is None:
            self.candidates = [candidate for candidate in self.candidates if candidate.alive]

    def finish(self) -> None:
        """Let the candidates look at the first values, and give them these values; once."""
        first, self._first = self._first, None
        if first is None:
            return
        for candidate in self.candidates:
            candidate.column.look([value for value, _, repeated in first if not repeated])
        for value, line, repeated in first:
            self._add(value, line, repeated)

    @property
    def counts(self) -> Counts:
        """Number of values, and of different ones among them."""
        distinct = len(self._distinct) if self._share is None else int(self._share * self._values)
        return Counts(self._values, distinct)

    def chosen(self, name: str, unit: str) -> _Candidate:
        """Return the first type that fits, of numbers and of identifiers the one with the fewest other strings.

        Raises:
            UserError: the column is not of the type that the user names.
        """
        both = self.null and self.empty  # a missing value and an empty text remain apart
        if self.wanted is not None:
            if both and self.wanted != MIXED:
                raise UserError(
                    f"--COLUMN_TYPES {name}={self.wanted}: column {name!r} holds null and empty texts, which only the "
                    f"type {MIXED} keeps apart; leave the flag out, or write one of them in the file"
                )
            return self._wanted(name, unit)
        if both:
            return self._mixed()
        for _, group in itertools.groupby(self.candidates, key=lambda one: one.column.tolerant):
            fitting = [one for one in group if one.column.fits(self.counts)]
            fitting = [one for one in fitting if one.others * TOLERANCE <= self._values]
            if fitting:
                return min(fitting, key=lambda one: one.others)
        raise AssertionError("values of every kind make a mixed column")

    def _mixed(self) -> _Candidate:
        """Return the candidate that keeps values of all types apart, which no value ends."""
        found = next(one for one in self.candidates if isinstance(one.column, MixedColumn))
        found.column.fits(self.counts)
        return found

    def _wanted(self, name: str, unit: str) -> _Candidate:
        """Return the candidate of the type that the user names; words for missing values apart, all values are."""
        for candidate in self.candidates:
            if candidate.alive and (isinstance(candidate.column, CategoryColumn) or candidate.column.fits(self.counts)):
                return candidate
        what = f"holds no {self.wanted}"
        if refused := [one.refused for one in self.candidates if one.refused is not None]:
            value, line = max(refused, key=lambda one: one[1])  # the decimal mark that fits more of the values
            many = self.wanted in CategoryColumn.kinds and isinstance(value, str)
            what = f"has over {MANY_CATEGORIES:,} different values" if many else f"is no {self.wanted}"
            what += f"; {unit} {line} holds {value!r}"
        raise UserError(
            f"--COLUMN_TYPES {name}={self.wanted}: column {name!r} {what}; leave the flag out, or name another type "
            f"({', '.join(KINDS)})"
        )

    def to_json(self, name: str, unit: str) -> dict[str, Any]:
        """Describe the column: its type, and the counts and examples of a report."""
        self.finish()
        found = self.chosen(name, unit)
        counts = self.counts
        if self.empty and isinstance(found.column, MixedColumn):
            found.column.add("")
        description = found.column.to_json()
        if found.missing:
            description["missing"] = sorted(found.missing)
        if found.outliers:
            description["outliers"] = [[text, line, count] for text, (line, count) in found.outliers.items()]
        if self.empty and not isinstance(found.column, MixedColumn):
            description["empty"] = True
        return description | {
            "seen": {
                "values": counts.values,
                "distinct": counts.distinct,
                "exactly": self._share is None,
                "missing": self.null + self.empty,
                "form": found.column.form,
                "range": found.column.extent(),
                "examples": [found.column.spelling(value) for value in self.examples],
            }
        }


class ColumnSurvey:
    """Finds the types of a table's columns from its values.

    Missing values (None, and empty strings) do not affect a column's type.

    Args:
        spelt: True if every value is read as a string and an empty one is a missing value, as in CSV.
        wanted: type of a column, for columns whose type the user names.
        unit: `line` or `row`, for messages.
    """

    def __init__(self, spelt: bool = False, wanted: Mapping[str, str] | None = None, unit: str = "line") -> None:
        if spelt and (mixed := [name for name, kind in (wanted or {}).items() if kind == "mixed"]):
            raise UserError(
                f"--COLUMN_TYPES {mixed[0]}=mixed is for the types of JSON and Parquet, and every value of this format "
                "is a string; take text"
            )
        self._spelt = spelt
        self._wanted = dict(wanted or {})
        self._unit = unit
        self._columns: dict[str, _Column] = {}

    def see(self, row: Mapping[str, Any], line: int = 0) -> None:
        """Take the values of a row into account.

        Args:
            row: values by column name.
            line: line of the row in its file, for messages.
        """
        for name, value in row.items():
            if name not in self._columns:
                self._columns[name] = _Column(self._wanted.get(name))
            self._columns[name].see(None if value == "" and self._spelt else value, line)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Describe each column seen: its kind, with the range or the values of the column, and a report of it.

        Raises:
            UserError: a column is not of the type that the user names, or no column has that name.
        """
        if unknown := [name for name in self._wanted if name not in self._columns]:
            known = ", ".join(self._columns) or "none of its own"
            raise UserError(f"--COLUMN_TYPES names {unknown[0]!r}, which is no column that is kept ({known})")
        return {name: column.to_json(name, self._unit) for name, column in self._columns.items()}


def outliers(columns: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str, int, int]]:
    """Return name, kind, string, first line and count of each string that is of another type than its column."""
    for name, column in columns.items():
        for text, line, count in column.get("outliers", ()):
            yield name, column["kind"], text, line, count
