"""Constraints between the columns of a table, from the file that `--CONSTRAINTS` names.

The file is a JSON list of objects, or one object; each has one of these keys:

    {"inequality": "start <= end"}                    two columns of numbers, or two of dates
    {"unique": ["city", "street"], "new": true}       no two rows with these values; new: none of the data either
    {"formula": "total = price * quantity"}           the column is computed from others
    {"where": "age > 30 and sex = F"}                 conditions as --WHERE writes them
"""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.data.column_survey import MISSING
from pipeline.data.conditions import DATES, NUMBERS, ColumnCondition, OrderedColumn, parse_where
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json

KINDS = ("inequality", "unique", "formula", "where")
NODES = 200  # columns, numbers and operations of a formula at most
SHOWN = 60  # characters of a formula or name in a message
MAGNITUDE = 400  # powers of ten beyond which no value is computed: exact fractions would take minutes
_INEQUALITY = re.compile(r"(?P<left>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<right>.+)")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATIONS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Inequality:
    """Order of the values of two columns; a row in which one of them is missing satisfies it.

    Args:
        left: column on the left.
        sign: `<`, `<=`, `>` or `>=`.
        right: column on the right.
    """

    left: OrderedColumn
    sign: str
    right: OrderedColumn

    def holds(self, row: Mapping[str, str]) -> bool:
        """Return True if a row of spelled values satisfies it."""
        one, other = self.left.key(row[self.left.name]), self.right.key(row[self.right.name])
        return one is None or other is None or _SIGNS[self.sign](one, other)

    def possible(self) -> bool:
        """Return False if no row with values in the ranges of the data satisfies it."""
        sides = (self.left, self.right)
        for one in (side.description for side in sides):
            if (one.get("seen") or {"missing": 1})["missing"] or one.keys() & {"missing", "outliers", "nan"}:
                return True  # a value without order satisfies it
        below, above = sides if self.sign.startswith("<") else sides[::-1]
        low, high = below.seen.low, above.seen.high
        return low is None or high is None or _SIGNS["<" + self.sign[1:]](low, high)


@dataclass(frozen=True)
class Unique:
    """Columns whose values name a row.

    Args:
        columns: the columns.
        new: True if no row of the data may have these values either.
    """

    columns: tuple[str, ...]
    new: bool = False

    def key(self, row: Mapping[str, str]) -> tuple[str, ...]:
        """Return the values that name a row."""
        return tuple(row[name] for name in self.columns)


@dataclass(frozen=True)
class Formula:
    """A column that is computed from other columns.

    Args:
        target: the column.
        inputs: columns of the expression.
        expression: parsed expression, whose constants are the digits of the file.
    """

    target: OrderedColumn
    inputs: Mapping[str, OrderedColumn]
    expression: ast.expr

    def value(self, row: Mapping[str, str]) -> str | None:
        """Return the spelled value of the column.

        The arithmetic is exact. A column of decimals rounds the result to its own decimals, halves to the even digit.

        Args:
            row: spelled values by column.

        Returns:
            The value as the column spells it. It is empty if an input is empty or a word for a missing value. It is
            None if an input is no number, a divisor is 0, the column has integers and the result is none, or a number
            is beyond 10 to the power of `MAGNITUDE`.
        """
        numbers = {}
        for name, column in self.inputs.items():
            if not row[name] or row[name] in MISSING:
                return ""
            key = column.key(row[name])
            if not isinstance(key, Decimal) or abs(key.adjusted()) > MAGNITUDE:
                return None
            numbers[name] = Fraction(key)
        try:
            value = _computed(self.expression, numbers)
        except ZeroDivisionError:
            return None
        if abs(value) > 10**MAGNITUDE:
            return None
        if value.denominator == 1:
            return self.target.format.write(Decimal(value.numerator))
        if self.target.kind == "integer":
            return None
        # So many digits that a quotient beside the middle of two decimals is not rounded to the middle first.
        digits = 50 + (value.numerator.bit_length() + value.denominator.bit_length()) // 3
        quotient = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
        return self.target.format.write(quotient)


@dataclass(frozen=True)
class Constraints:
    """All constraints of a file.

    Args:
        inequalities: orders of two columns.
        unique: columns that name a row.
        formulas: columns that are computed, each after those that it reads.
        where: conditions by column.
    """

    inequalities: tuple[Inequality, ...] = ()
    unique: tuple[Unique, ...] = ()
    formulas: tuple[Formula, ...] = ()
    where: tuple[Mapping[str, ColumnCondition], ...] = ()

    def completed(self, row: Mapping[str, str]) -> dict[str, str] | None:
        """Return a row with its computed columns; None if one cannot be computed."""
        found = dict(row)
        for formula in self.formulas:
            value = formula.value(found)
            if value is None:
                return None
            found[formula.target.name] = value
        return found

    def holds(self, row: Mapping[str, str]) -> bool:
        """Return True if a row satisfies the inequalities and conditions."""
        return all(one.holds(row) for one in self.inequalities) and all(
            one.permits(row[name]) for conditions in self.where for name, one in conditions.items()
        )


def read_constraints(path: Path, columns: Mapping[str, Any]) -> Constraints:
    """Read a file of constraints.

    Args:
        path: the file.
        columns: types of the columns, as `ColumnSurvey` describes them.

    Raises:
        UserError: the file is absent or damaged, or an entry names no such columns or kind; the message gives its
            number.
    """
    stored = read_json(path, "--CONSTRAINTS names a JSON list", distinct=True)
    stored = [stored] if isinstance(stored, dict) else stored
    if not isinstance(stored, list) or not stored:
        raise UserError(f'--CONSTRAINTS {path} holds no list; write [{{"inequality": "a <= b"}}, …]')
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    entries: dict[str, list[int]] = {kind: [] for kind in KINDS}  # their numbers
    for number, entry in enumerate(stored, 1):
        place = f"--CONSTRAINTS {path}, entry {number}"
        if not isinstance(entry, dict) or len(kinds := [kind for kind in KINDS if kind in entry]) != 1:
            raise UserError(f"{place}: expected an object with one of {', '.join(KINDS)}")
        if extra := entry.keys() - {kinds[0], *(("new",) if kinds[0] == "unique" else ())}:
            raise UserError(f"{place}: {_short(sorted(extra)[0])!r} means nothing for {kinds[0]}")
        found[kinds[0]].append(_READERS[kinds[0]](entry, columns, place))
        entries[kinds[0]].append(number)
    formulas = _in_order(dict(zip(entries["formula"], found["formula"], strict=True)), path)
    computed = {one.target.name for one in formulas}
    for number, one in zip(entries["inequality"], found["inequality"], strict=True):
        if not computed & {one.left.name, one.right.name} and not one.possible():
            ranges = (f"{side.name!r} is {side.description['seen']['range']}" for side in (one.left, one.right))
            place, found_in = f"--CONSTRAINTS {path}, entry {number}", f"{' and '.join(ranges)} in the data"
            raise UserError(f"{place}: no row can satisfy it, for {found_in}; leave it out, or turn the sign")
    return Constraints(tuple(found["inequality"]), tuple(found["unique"]), formulas, tuple(found["where"]))


def _short(text: str) -> str:
    """Shorten a text of the file for a message."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _column(name: str, columns: Mapping[str, Any], place: str) -> OrderedColumn:
    name = name.strip().strip("'\"`")
    if name not in columns:
        raise UserError(f"{place}: there is no column {_short(name)!r}; there are {', '.join(list(columns)[:20])}")
    return OrderedColumn(name, columns[name])


def _text(entry: Mapping[str, Any], kind: str, place: str) -> str:
    if not isinstance(entry[kind], str):
        raise UserError(f"{place}: {kind} must be a text")
    return entry[kind]


def _inequality(entry: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> Inequality:
    match = _INEQUALITY.fullmatch(_text(entry, "inequality", place).strip())
    if match is None:
        raise UserError(f"{place}: write an inequality as 'a <= b', with the names of two columns")
    left, right = (_column(match[side], columns, place) for side in ("left", "right"))
    for group in (NUMBERS, DATES):
        if left.kind in group and (right.kind in group if group is NUMBERS else right.kind == left.kind):
            if left.has_zone != right.has_zone:
                zoned, other = (left, right) if left.has_zone else (right, left)
                raise UserError(
                    f"{place}: {zoned.name!r} has time zones and {other.name!r} has none, so that their order is not "
                    "known; leave the inequality out"
                )
            if left.format.measure != right.format.measure:
                units = (f"{one.name!r} has the unit {one.format.measure or 'none'}" for one in (left, right))
                raise UserError(f"{place}: {' and '.join(units)}, which are not comparable; leave the inequality out")
            return Inequality(left, match["sign"], right)
    raise UserError(
        f"{place}: {left.name!r} is of type {left.kind} and {right.name!r} of type {right.kind}; an inequality needs "
        "two numbers, or two dates of one kind"
    )


def _unique(entry: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> Unique:
    names = [entry["unique"]] if isinstance(entry["unique"], str) else entry["unique"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{place}: unique must be the name of a column, or a list of names")
    if not isinstance(entry.get("new", False), bool):
        raise UserError(f"{place}: new must be true or false")
    found = tuple(_column(name, columns, place).name for name in names)
    if twice := [name for name in found if found.count(name) > 1]:
        raise UserError(f"{place}: unique names column {_short(twice[0])!r} twice; name it once")
    return Unique(found, entry.get("new", False))


def _formula(entry: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> Formula:
    text = _text(entry, "formula", place)
    name, sign, expression = text.partition("=")
    if not sign:
        raise UserError(f"{place}: write a formula as 'total = price * quantity'")
    target = _column(name, columns, place)
    # Names of columns that are no names of Python are written in back quotes.
    quoted: dict[str, str] = {}
    prefix = "column_"
    while prefix in expression:
        prefix += "_"

    def named(match: re.Match[str]) -> str:
        quoted[f"{prefix}{len(quoted)}_"] = match[1]
        return f"{prefix}{len(quoted) - 1}_"

    source, shown = re.sub(r"`([^`]+)`", named, expression.strip()), _short(expression.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's warnings about its own syntax would be lines of their own
            parsed = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        raise UserError(f"{place}: {shown!r} is no formula of columns, numbers, + - * / and ()") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{place}: {shown!r} is nested too deeply; write a shorter formula") from None
    if (count := sum(isinstance(node, ast.expr) for node in ast.walk(parsed))) > NODES:
        raise UserError(f"{place}: {shown!r} has {count:,} columns, numbers and operations; at most {NODES} may be")
    inputs: dict[str, OrderedColumn] = {}
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name):
            # Python changes some letters of names to others, so the name is that of the source.
            node.id = quoted.get(node.id) or ast.get_source_segment(source, node) or node.id
            column = _column(node.id, columns, place)
            node.id = column.name
            inputs[node.id] = column
        elif not _is_arithmetic(node):
            raise UserError(f"{place}: a formula has columns, numbers, + - * / and () alone")
        elif isinstance(node, ast.Constant):
            node.value = _digits(node, source, place)
    for column in (target, *inputs.values()):
        if column.kind not in NUMBERS:
            raise UserError(f"{place}: column {column.name!r} is of type {column.kind}, and a formula needs numbers")
    if not target.format.decimals and not target.format.exponents:
        raise UserError(f"{place}: column {target.name!r} has no number in the data whose form a new one could take")
    return Formula(target, inputs, parsed)


def _digits(node: ast.Constant, source: str, place: str) -> str:
    """Return the digits of a constant as the file has them, which a float would round.

    Raises:
        UserError: the constant is too large or too small.
    """
    text = ast.get_source_segment(source, node) or str(node.value)
    number = Decimal(node.value if isinstance(node.value, int) else text)
    if not math.isfinite(float(number)) or (number and not float(number)):
        raise UserError(f"{place}: the number {_short(text)} is outside the range of 1e-308 to 1e308")
    return str(number)


def _is_arithmetic(node: ast.AST) -> bool:
    """Return True for numbers, the four operations and signs, and the parts of them that hold nothing."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATIONS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd))
    return isinstance(node, (ast.operator, ast.unaryop, ast.expr_context))


def _where(entry: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> dict[str, ColumnCondition]:
    try:
        return parse_where(_text(entry, "where", place), columns)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


_READERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], Any]] = {
    "inequality": _inequality,
    "unique": _unique,
    "formula": _formula,
    "where": _where,
}


def _in_order(formulas: Mapping[int, Formula], path: Path) -> tuple[Formula, ...]:
    """Put each formula behind those that compute its inputs.

    Args:
        formulas: formulas by the number of their entry.
        path: the file.

    Raises:
        UserError: two formulas compute the same column, or some need each other.
    """
    entries: dict[str, int] = {}
    for number, one in formulas.items():
        if (first := entries.setdefault(one.target.name, number)) != number:
            raise UserError(
                f"--CONSTRAINTS {path}, entries {first} and {number}: both formulas compute {one.target.name!r}; leave "
                "one of them out"
            )
    left, ordered = {one.target.name: one for one in formulas.values()}, list[Formula]()
    while left:
        ready = [name for name, one in left.items() if not left.keys() & one.inputs.keys()]
        if not ready:
            raise UserError(f"--CONSTRAINTS {path}, {_cycle(left, entries)}")
        ordered += [left.pop(name) for name in ready]
    return tuple(ordered)


def _cycle(left: Mapping[str, Formula], entries: Mapping[str, int]) -> str:
    """Describe the formulas that need each other, without those that only read them."""
    while unread := [name for name in left if not any(name in one.inputs for one in left.values())]:
        left = {name: one for name, one in left.items() if name not in unread}
    if len(left) == 1:
        (name,) = left
        return f"entry {entries[name]}: the formula of {name!r} needs {name!r} itself"
    numbers = " and ".join(str(entries[name]) for name in left)
    return f"entries {numbers}: the formulas of {', '.join(left)} need each other"


def _computed(node: ast.expr, numbers: Mapping[str, Fraction]) -> Fraction:
    """Compute an expression of checked nodes."""
    if isinstance(node, ast.Name):
        return numbers[node.id]
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        value = _computed(node.operand, numbers)
        return -value if isinstance(node.op, ast.USub) else value
    assert isinstance(node, ast.BinOp)
    return _OPERATIONS[type(node.op)](_computed(node.left, numbers), _computed(node.right, numbers))
