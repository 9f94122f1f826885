"""Constraints between the columns of a table, from the file that `--CONSTRAINTS` names.

The file is a JSON list; each entry has one of these keys:

    {"inequality": "start <= end"}                    two columns of numbers, or two of dates
    {"unique": ["city", "street"], "new": true}       no two rows with these values; new: none of the data either
    {"formula": "total = price * quantity"}           the column is computed from others
    {"where": "age > 30 and sex = F"}                 conditions as --WHERE writes them
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, DivisionByZero, InvalidOperation
from pathlib import Path
from typing import Any

from pipeline.data.conditions import DATES, NUMBERS, ColumnCondition, OrderedColumn, parse_where
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json

KINDS = ("inequality", "unique", "formula", "where")
_INEQUALITY = re.compile(r"(?P<left>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<right>.+)")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATIONS: dict[type, Callable[[Decimal, Decimal], Decimal]] = {
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
        expression: parsed expression.
    """

    target: OrderedColumn
    inputs: Mapping[str, OrderedColumn]
    expression: ast.expr

    def value(self, row: Mapping[str, str]) -> str | None:
        """Return the spelled value; empty if an input is missing, None if it cannot be computed."""
        numbers = {}
        for name, column in self.inputs.items():
            if not row[name]:
                return ""
            key = column.key(row[name])
            if not isinstance(key, Decimal):
                return None
            numbers[name] = key
        try:
            return self.target.format.write(_computed(self.expression, numbers))
        except (InvalidOperation, DivisionByZero, ZeroDivisionError, OverflowError):
            return None


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
    stored = read_json(path, "--CONSTRAINTS names a JSON list")
    if not isinstance(stored, list) or not stored:
        raise UserError(f'--CONSTRAINTS {path} holds no list; write [{{"inequality": "a <= b"}}, …]')
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for number, entry in enumerate(stored, 1):
        place = f"--CONSTRAINTS {path}, entry {number}"
        if not isinstance(entry, dict) or len(kinds := [kind for kind in KINDS if kind in entry]) != 1:
            raise UserError(f"{place}: expected an object with one of {', '.join(KINDS)}")
        if extra := entry.keys() - {kinds[0], *(("new",) if kinds[0] == "unique" else ())}:
            raise UserError(f"{place}: {sorted(extra)[0]!r} means nothing for {kinds[0]}")
        found[kinds[0]].append(_READERS[kinds[0]](entry, columns, place))
    return Constraints(
        tuple(found["inequality"]), tuple(found["unique"]), _in_order(found["formula"], path), tuple(found["where"])
    )


def _column(name: str, columns: Mapping[str, Any], place: str) -> OrderedColumn:
    name = name.strip().strip("'\"`")
    if name not in columns:
        raise UserError(f"{place}: there is no column {name!r}; there are {', '.join(list(columns)[:20])}")
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
    return Unique(tuple(_column(name, columns, place).name for name in names), entry.get("new", False))


def _formula(entry: Mapping[str, Any], columns: Mapping[str, Any], place: str) -> Formula:
    text = _text(entry, "formula", place)
    name, sign, expression = text.partition("=")
    if not sign:
        raise UserError(f"{place}: write a formula as 'total = price * quantity'")
    target = _column(name, columns, place)
    # Names of columns that are no names of Python are written in back quotes.
    quoted: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        quoted[f"column_{len(quoted)}_"] = match[1]
        return f"column_{len(quoted) - 1}_"

    try:
        parsed = ast.parse(re.sub(r"`([^`]+)`", named, expression.strip()), mode="eval").body
    except (SyntaxError, ValueError):
        raise UserError(f"{place}: {expression.strip()!r} is no formula of columns, numbers, + - * / and ()") from None
    inputs: dict[str, OrderedColumn] = {}
    for node in ast.walk(parsed):
        if isinstance(node, ast.Name):
            node.id = quoted.get(node.id, node.id)
            inputs[node.id] = _column(node.id, columns, place)
        elif not _is_arithmetic(node):
            raise UserError(f"{place}: a formula has columns, numbers, + - * / and () alone")
    for column in (target, *inputs.values()):
        if column.kind not in NUMBERS:
            raise UserError(f"{place}: column {column.name!r} is of type {column.kind}, and a formula needs numbers")
    return Formula(target, inputs, parsed)


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


def _in_order(formulas: Iterable[Formula], path: Path) -> tuple[Formula, ...]:
    """Put each formula behind those that compute its inputs."""
    left, ordered = list(formulas), list[Formula]()
    if len({one.target.name for one in left}) < len(left):
        raise UserError(f"--CONSTRAINTS {path}: two formulas compute the same column; leave one of them out")
    while left:
        waiting = {one.target.name for one in left}
        ready = [one for one in left if not waiting & one.inputs.keys()]
        if not ready:
            raise UserError(f"--CONSTRAINTS {path}: the formulas of {', '.join(sorted(waiting))} need each other")
        ordered += ready
        left = [one for one in left if one not in ready]
    return tuple(ordered)


def _computed(node: ast.expr, numbers: Mapping[str, Decimal]) -> Decimal:
    """Compute an expression of checked nodes."""
    if isinstance(node, ast.Name):
        return numbers[node.id]
    if isinstance(node, ast.Constant):
        return Decimal(str(node.value))
    if isinstance(node, ast.UnaryOp):
        value = _computed(node.operand, numbers)
        return -value if isinstance(node.op, ast.USub) else value
    assert isinstance(node, ast.BinOp)
    return _OPERATIONS[type(node.op)](_computed(node.left, numbers), _computed(node.right, numbers))
