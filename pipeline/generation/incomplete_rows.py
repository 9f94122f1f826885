"""Rows of a table with some values, whose others are drawn: imputation."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from models.sampling import SamplingSettings
from pipeline.data.column_code import ValueCode
from pipeline.data.column_survey import MISSING
from pipeline.data.column_types import ColumnTypes, RejectedError
from pipeline.data.conditions import ColumnCondition
from pipeline.data.constraints import Constraints
from pipeline.data.date_code import DateCode
from pipeline.data.file_format import Row
from pipeline.data.formats import FORMATS, format_of
from pipeline.data.number_code import NumberCode
from pipeline.data.ordered_column import DATES, NUMBERS, OrderedColumn
from pipeline.data.row_conditions import permitted
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.data.text_code import TextCode
from pipeline.experiments.load import Experiment
from pipeline.runtime.errors import UserError


@dataclass(frozen=True)
class IncompleteRows:
    """Values that samples have, each sample those of a row of a file.

    A value that the file leaves open is drawn, and is none that stands for a missing one; a column that the file does
    not have may be missing where the model says so.

    Args:
        given: spelled values of each row, by column.
        opened: columns of each row that the file has, and leaves open.
        places: file and line of each row.
        groups: condition on the columns of each row, in the form of their codes; those of given values come first.
        labels: label of each row; None if the data have none, or the file does not say it.
    """

    given: tuple[Mapping[str, str], ...]
    opened: tuple[frozenset[str], ...]
    places: tuple[str, ...]
    groups: tuple[Mapping[str, Any], ...]
    labels: tuple[str, ...] | None = None

    @staticmethod
    def read(experiment: Experiment, path: Path, conditions: Mapping[str, ColumnCondition]) -> "IncompleteRows":
        """Read the rows of a file in any format of tables.

        Args:
            experiment: model and data.
            path: the file, whose columns are some of the table's.
            conditions: conditions that every row satisfies, by column.

        Raises:
            UserError: the file cannot be read, has a column that the table's rows do not have, or a value that no row
                of the model can have; the message names the place.
        """
        return _Reader(experiment, path, conditions).all_of(_rows(experiment, path))

    @property
    def order(self) -> range:
        """Number of the group of each sample: its own row."""
        return range(len(self.given))

    def drawn(self, number: int) -> bool:
        """Return True if a row has two columns or more that are drawn and may not be missing.

        One alone comes right after the given values, which all candidates share, so that it leaves them equal weights.
        """
        return len(self.groups[number]) > 1 + len(self.given[number].keys() & self.groups[number].keys())

    def holds(self, number: int, values: Mapping[str, str]) -> bool:
        """Return True if a sample with this number has the values that its row gives, and misses no open one."""
        opened = (values[name] for name in self.opened[number])
        return all(values[name] == value for name, value in self.given[number].items()) and all(
            value and value not in MISSING for value in opened
        )

    def check(self, constraints: Constraints, known: Sequence[set[tuple[str, ...]]]) -> None:
        """Check that given values do not break a constraint by themselves.

        Args:
            constraints: constraints between columns.
            known: keys of the data that no sample may have, for each key of the constraints.

        Raises:
            UserError: they do; the message names the row.
        """
        for given, place in zip(self.given, self.places, strict=True):
            for one in constraints.inequalities:
                if {one.left.name, one.right.name} <= given.keys() and not one.holds(given):
                    raise UserError(
                        f"{place}: its values break {one.left.name} {one.sign} {one.right.name} of --CONSTRAINTS"
                    )
            for formula in constraints.formulas:
                name = formula.target.name
                if {name, *formula.inputs} <= given.keys() and formula.value(given) != given[name]:
                    raise UserError(
                        f"{place}: column {name!r} is {given[name]!r}, and its formula of --CONSTRAINTS gives "
                        f"{formula.value(given)!r}; mend it, or leave it empty"
                    )
        for unique, keys in zip(constraints.unique, known, strict=True):
            taken = set(keys)
            for given, place in zip(self.given, self.places, strict=True):
                if set(unique.columns) <= given.keys():
                    if (key := unique.key(given)) in taken:
                        raise UserError(
                            f"{place}: {', '.join(unique.columns)} are unique by --CONSTRAINTS, and {key} occurs before"
                        )
                    taken.add(key)


def counted(experiment: Experiment, settings: SamplingSettings) -> SamplingSettings:
    """Return settings with as many samples as a file has incomplete rows.

    Raises:
        UserError: the settings name another number, or the file cannot be read.
    """
    if settings.impute is None:
        return settings
    count = len(_rows(experiment, Path(settings.impute)))
    if settings.number_samples not in (None, count):
        raise UserError(
            f"--IMPUTE {settings.impute} has {count:,} rows, and a sample for each; leave --NUMBER_SAMPLES out"
        )
    return replace(settings, number_samples=count)


def _rows(experiment: Experiment, path: Path) -> list[Row]:
    form = format_of(path)
    if form is None or not form.is_table:
        tables = ", ".join(suffix for suffix, one in FORMATS.items() if one.is_table)
        raise UserError(f"--IMPUTE {path} is no table; give a file of {tables}")
    if not os.path.isfile(path):
        raise UserError(f"--IMPUTE {path} does not exist, or is no file; name a table")
    source = experiment.data.statistics.get("source") or {}
    columns = form.columns(path, source.get("delimiter") if form.delimited else None)
    if not {*columns.names} <= {*source.get("columns", ())}:  # not the delimiter of the data
        columns = form.columns(path)
    found = list(form.read(path, columns, None, None))
    if not found:
        raise UserError(f"--IMPUTE {path} has no rows; give a table with one row or more")
    return found


class _Reader:
    """Reads incomplete rows.

    Args:
        experiment: model and data.
        path: file of the rows.
        conditions: conditions that every row satisfies, by column.
    """

    def __init__(self, experiment: Experiment, path: Path, conditions: Mapping[str, ColumnCondition]) -> None:
        data = experiment.data
        assert isinstance(data.tokenizer, RowTokenizer), "only rows of a table have columns"
        form = format_of(path)
        assert form is not None, "the file was read"
        self._tokenizer, self._path, self._unit, self._conditions = data.tokenizer, path, form.unit, conditions
        source = data.statistics["source"]
        self._columns: Mapping[str, Any] = source["columns"]
        self._label: str | None = source.get("label_column")
        self._types = ColumnTypes(self._columns)
        self._readers = {name: OrderedColumn(name, one) for name, one in self._columns.items()}
        self._known: dict[tuple[str, str | None], Any] = {}

    def all_of(self, rows: list[Row]) -> IncompleteRows:
        """Return the values and conditions of all rows."""
        held = list(rows[0].values)
        known = [*self._tokenizer.fields, *([self._label] if self._label else [])]
        if unknown := [name for name in held if name not in known]:
            raise UserError(
                f"--IMPUTE {self._path} has a column {unknown[0][:80]!r}, which the rows of the model do not have; "
                f"they have {', '.join(known[:20])}"
            )
        given, groups, missing, labels = [], [], [], []
        for row in rows:
            values = {name: self._spelled(row, name) for name in held}
            if self._label in values:
                labels.append(self._checked_label(row, values.pop(self._label)))
            present = {name: value for name, value in values.items() if value}
            if (collision := self._collision(present)) is not None:
                name, words = collision
                raise self._refused(row, f"column {name!r} holds {words!r}, the words behind it in a row; change it")
            fixed = {name: self._condition(row, name, value) for name, value in present.items()}
            opened = {name: self._condition(row, name, None) for name, value in values.items() if not value}
            given.append(present)
            missing.append(frozenset(name for name in values.keys() - present.keys() if self._has_values(name)))
            groups.append({name: one for name, one in (*fixed.items(), *opened.items()) if one is not None})
        places = tuple(f"--IMPUTE {self._path}, {self._unit} {row.line}" for row in rows)
        return IncompleteRows(tuple(given), tuple(missing), places, tuple(groups), tuple(labels) if labels else None)

    def _spelled(self, row: Row, name: str) -> str:
        """Return a value as its column spells it; empty for one that is missing."""
        value = row.values.get(name)
        if value is None or value == "":
            return ""
        reader = self._readers[name]
        number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        if number and reader.kind in NUMBERS and self._columns[name].get("text"):
            # Numbers of a typed file, for a column of texts with marks of its own.
            exact = Decimal(str(value))
            written = reader.format.write(exact)
            value = written if written and reader.format.read(written) == exact else str(value)
        try:
            spelled = self._types.spelling(name, value)
            missing = spelled in self._columns[name].get("missing", ())
            if not spelled or missing or (spelled in MISSING and not self._is_member(name, spelled)):
                return ""
            self._types.value(name, spelled)
        except RejectedError as error:
            raise self._refused(row, str(error)) from None
        return spelled

    def _is_member(self, name: str, spelled: str) -> bool:
        if name == self._label:
            return spelled in self._tokenizer.labels
        code = self._tokenizer.fields[name].code
        ordered = self._readers[name].kind in (*NUMBERS, *DATES)
        return isinstance(code, ValueCode) and not ordered and spelled in code.values

    def _checked_label(self, row: Row, label: str) -> str:
        if label in self._tokenizer.labels:
            return label
        reason = f"has no label {label[:60]!r}" if label else "has no label"
        raise self._refused(
            row,
            f"{reason}, and the label of a row is not drawn given the rest; give one of "
            f"{', '.join(list(self._tokenizer.labels)[:20])}, or prepare the table without --LABEL_COLUMN",
        )

    def _collision(self, present: Mapping[str, str]) -> tuple[str, str] | None:
        template = self._tokenizer.template
        return template.ambiguous(dict.fromkeys(template.columns, "") | dict(present))

    def _condition(self, row: Row, name: str, value: str | None) -> Any:
        """Return the condition of a value, or of a present one; None if there is nothing to ask for."""
        if (name, value) not in self._known:
            try:
                self._known[name, value] = self._new_condition(name, value)
            except UserError as error:
                raise self._refused(row, str(error).removeprefix("--WHERE: ")) from None
        return self._known[name, value]

    def _new_condition(self, name: str, value: str | None) -> Any:
        code, reader = self._tokenizer.fields[name].code, self._readers[name]
        own = ColumnCondition(name, reader=reader)
        if value is not None:
            own = replace(own, only=frozenset([reader.member(value)]))
        elif not self._may_miss(name) and name not in self._conditions:
            return None
        if name in self._conditions:
            own = own.both(self._conditions[name])
            own.check()
        try:
            return permitted(own, code, self._columns[name])
        except UserError:
            if name in self._conditions:
                raise
            if value is None:
                return None  # the column has nothing but missing values
            raise UserError(
                f"the data have no value {value!r} in column {name!r}, so that the model knows none"
            ) from None

    def _has_values(self, name: str) -> bool:
        """Return False for a column of nothing but missing values."""
        return (self._columns[name].get("seen") or {}).get("values") != 0

    def _may_miss(self, name: str) -> bool:
        """Return True if some values of a column stand for a missing one."""
        code = self._tokenizer.fields[name].code
        if isinstance(code, TextCode):
            return code.empty
        assert isinstance(code, ValueCode | NumberCode | DateCode), "there are no other codes"
        values = code.values if isinstance(code, ValueCode) else code.specials.values
        return any(not value or value in MISSING for value in values)

    def _refused(self, row: Row, reason: str) -> UserError:
        return UserError(f"--IMPUTE {self._path}, {self._unit} {row.line}: {reason}")
