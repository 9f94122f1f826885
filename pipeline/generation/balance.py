"""Samples of a table with as many rows of each member of a column."""

import difflib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.column_code import ValueCode
from pipeline.data.column_survey import MISSING
from pipeline.data.column_types import MANY_CATEGORIES
from pipeline.data.conditions import ColumnCondition
from pipeline.data.dataset import PreparedData
from pipeline.data.ordered_column import SHOWN
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.runtime.errors import UserError

KINDS = ("category", "boolean")


@dataclass(frozen=True)
class Balance:
    """Members of a column, and the member that each sample has.

    Args:
        column: name of the column.
        members: spelled values of each member; a missing value may have several.
        order: number of the member of each sample.
    """

    column: str
    members: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]

    @staticmethod
    def of(data: PreparedData, column: str, count: int, seed: int, condition: ColumnCondition | None) -> "Balance":
        """Give each sample a member of a column, in shuffled order, so that their numbers differ by one at most.

        The members are those of the training split. Missing values are one member, however they are spelled.

        Args:
            data: prepared rows of a table.
            column: name of the column.
            count: number of samples.
            seed: seed of the order.
            condition: condition on the column, which members may not satisfy; None for none.

        Raises:
            UserError: the column is unknown or of another type, no member satisfies the condition, or there are fewer
                samples than members.
        """
        members = _members(data, column)
        if condition is not None:
            members = [kept for one in members if (kept := tuple(value for value in one if condition.permits(value)))]
        if not members:
            raise UserError(f"--BALANCE: no member of column {column!r} in the training rows satisfies the condition")
        if count < len(members):
            raise UserError(
                f"--BALANCE: column {column!r} has {len(members):,} members, more than the number of samples, "
                f"{count:,}; ask for {len(members):,} or more, or choose members with --WHERE"
            )
        source = random.Random(f"{seed} balance")
        numbers = source.sample(range(len(members)), len(members))  # which members get the rows that are left over
        order = [numbers[number % len(numbers)] for number in range(count)]
        source.shuffle(order)
        return Balance(column, tuple(members), tuple(order))

    def conditions(self, code: ValueCode) -> list[dict[str, Any]]:
        """Return the condition of each member, in the form of the column's code."""
        places = {value: token for token, value in enumerate(code.values)}
        return [{self.column: tuple(places[value] for value in member)} for member in self.members]

    def holds(self, number: int, values: Mapping[str, str]) -> bool:
        """Return True if a sample with this number has its member."""
        return values[self.column] in self.members[self.order[number]]


def _members(data: PreparedData, column: str) -> list[tuple[str, ...]]:
    """Return the members of a column.

    Raises:
        UserError: the column is unknown, or has no members.
    """
    tokenizer, source = data.tokenizer, data.statistics.get("source") or {}
    assert isinstance(tokenizer, RowTokenizer), "only rows of a table have columns"
    if column not in tokenizer.fields:
        if column == source.get("label_column"):
            raise UserError(f"--BALANCE: column {column!r} is the label; sample each label with --LABEL")
        near = difflib.get_close_matches(column, tokenizer.fields, SHOWN, 0.5) or list(tokenizer.fields)[:20]
        raise UserError(f"--BALANCE: the rows have no column {column[:80]!r}; they have {', '.join(near)}")
    description, code = source["columns"][column], tokenizer.fields[column].code
    if description["kind"] not in KINDS or not isinstance(code, ValueCode):
        distinct = (description.get("seen") or {}).get("distinct", 0)
        remedy = f"prepare the table with --COLUMN_TYPES {column}=category, or name another column"
        raise UserError(
            f"--BALANCE needs a column of categories or booleans, and column {column!r} is of type "
            f"{description['kind']}; {'name another column' if distinct > MANY_CATEGORIES else remedy}"
        )
    known = set(code.values)
    if "train" in data.splits:  # a shared model has no rows
        rows = (tokenizer.template.values(text) or {} for text in data.splits["train"]["text"])
        known &= {row[column] for row in rows if column in row}
    missing = tuple(value for value in code.values if value in known and (not value or value in MISSING))
    found = [(value,) for value in code.values if value in known and value not in missing]
    return [*found, missing] if missing else found
