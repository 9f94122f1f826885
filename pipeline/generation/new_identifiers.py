"""New values for columns of identifiers, which are made from their form and never copied from the data."""

import copy
import itertools
import random
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.data.column_types import column_type
from pipeline.data.dataset import PreparedData
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.data.text_code import TextCode
from pipeline.runtime.errors import UserError

KINDS = ("identifier", "uuid", "e-mail", "phone")
TRIES = 1000
NEW_DIGITS = 6  # last digits of a telephone number that are drawn, of seven at least
_LETTERS = {"9": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "a": "abcdefghijklmnopqrstuvwxyz"}


class NewIdentifiers:
    """Makes values of a column that no text of the data has, one for each sample.

    Args:
        column: name of the column.
        description: its type, as `ColumnSurvey` describes it.
        known: values of the data.
        tokenizer: tokenizer of the rows.
        seed: seed of all values.
        attempt: number of earlier values of each sample.
        largest: largest of whole numbers; None for any.
    """

    def __init__(
        self,
        column: str,
        description: Mapping[str, Any],
        known: set[str],
        tokenizer: RowTokenizer,
        seed: int,
        attempt: int,
        largest: int | None = None,
    ) -> None:
        self._column, self._field, self._seed, self._attempt = column, tokenizer.fields[column], seed, attempt
        self._taken = set(known)
        self._shapes: list[tuple[str, Sequence[Sequence[int]]]] = sorted((description.get("shapes") or {}).items())
        self._kind, self._known = description["kind"], sorted(known - {""})
        self._places = [] if self._kind == "uuid" else _characters(self._known)
        self._made: dict[int, str] = {}
        self._type, self._largest = column_type(description), largest

    def fresh(self, taken: Iterable[str] = ()) -> "NewIdentifiers":
        """Return a maker of values that has made none yet, and makes none of those that are taken."""
        found = copy.copy(self)
        found._taken, found._made = {*self._known, *taken}, {}
        return found

    def value(self, number: int) -> str:
        """Return a sample's value; the same value for the same sample.

        Raises:
            UserError: nearly all values of this form are taken.
        """
        if number not in self._made:
            source = random.Random(f"{self._seed} {self._attempt} {self._column} {number}")
            tries = itertools.chain(
                (self._alike(source) for _ in range(TRIES if self._places else 0)),
                (self._new(source) for _ in range(TRIES)),
            )
            value = next((one for one in tries if one and one not in self._taken and self._is_value(one)), None)
            if value is None:
                raise UserError(
                    f"column {self._column!r}: nearly all identifiers of its form are taken; generate fewer samples"
                )
            self._taken.add(value)
            self._made[number] = value
        return self._made[number]

    def _is_value(self, text: str) -> bool:
        """Return True for a value of the column's type: places of values in several forms may mix to one of none."""
        try:
            value = self._type.value(text)
        except ValueError:
            return False
        return self._largest is None or not isinstance(value, int) or value <= self._largest

    def __call__(self, number: int) -> list[int]:
        """Return the ids of the column and of a sample's value."""
        ids = self._field.encode(self.value(number))
        assert ids is not None, "a text has tokens"
        return ids

    def _alike(self, source: random.Random) -> str:
        """Draw each character among those that values of the data have at its place."""
        return "".join(source.choice(characters) for characters in source.choice(self._places))

    def _new(self, source: random.Random) -> str:
        """Draw all characters; a shared model has no values of the data to take domains and first digits from."""
        if self._kind == "e-mail":
            name, _, domain = source.choice(self._known or ["aaaaaaaa@example.com"]).partition("@")
            return (
                "".join(source.choice(_LETTERS[_kind_of(one)]) if one.isalnum() else one for one in name) + "@" + domain
            )
        if self._kind == "phone":
            # The first digits, such as the code of a country, stay.
            value = list(source.choice(self._known or ["+99 999 999 99 99"]))
            for place in [place for place, one in enumerate(value) if one.isdigit()][-NEW_DIGITS:]:
                value[place] = source.choice(_LETTERS["9"])
            return "".join(value)
        if not self._shapes:
            return str(uuid.UUID(int=source.getrandbits(128), version=4))
        shape, widths = source.choice(self._shapes)
        return "".join(
            "".join(source.choice(_LETTERS.get(kind, kind)) for _ in range(source.randint(low, high)))
            for kind, (low, high) in zip(shape, widths, strict=True)
        )


def _kind_of(character: str) -> str:
    """Return the key in `_LETTERS` of a character's kind."""
    return "9" if character.isdigit() else "A" if character.isupper() else "a"


def _form(value: str) -> str:
    """Replace the digits and letters of a value; those of the domain of an e-mail address stay."""
    name, at, domain = value.partition("@")
    return "".join("9" if one.isdigit() else "a" if one.isalpha() else one for one in name) + at + domain


def _characters(known: Sequence[str]) -> list[list[list[str]]]:
    """Return the characters at each place of values with the same marks and lengths, one entry for each value."""
    found: dict[str, list[set[str]]] = {}
    forms = [_form(value) for value in known]
    for value, form in zip(known, forms, strict=True):
        places = found.setdefault(form, [set() for _ in value])
        for place, character in zip(places, value, strict=True):
            place.add(character)
    ordered = {form: [sorted(place) for place in places] for form, places in found.items()}
    return [ordered[form] for form in forms]


def made_columns(data: PreparedData) -> list[str]:
    """Return the columns whose values are made, in order; none for data that are no rows of a table."""
    tokenizer = data.tokenizer
    if not isinstance(tokenizer, RowTokenizer):
        return []
    columns: Mapping[str, Any] = (data.statistics.get("source") or {}).get("columns") or {}
    return [
        name
        for name, field in tokenizer.fields.items()
        if isinstance(field.code, TextCode) and columns.get(name, {}).get("kind") in KINDS
    ]


def columns_beside_copies(data: PreparedData) -> list[str]:
    """Return the columns that say nothing of copies: the made ones, unless there are no others.

    No sample has an identifier of the data, so that with them none would be a copy.
    """
    made = made_columns(data)
    return made if isinstance(data.tokenizer, RowTokenizer) and len(made) < len(data.tokenizer.fields) else []


def new_identifiers(data: PreparedData, seed: int, attempt: int) -> dict[str, NewIdentifiers]:
    """Return the makers of new values, by column; none for data that are no rows of a table.

    Args:
        data: prepared data.
        seed: seed of the samples.
        attempt: number of earlier draws of the samples.
    """
    tokenizer, found = data.tokenizer, made_columns(data)
    if not isinstance(tokenizer, RowTokenizer):
        return {}
    columns: Mapping[str, Any] = (data.statistics.get("source") or {}).get("columns") or {}
    known: dict[str, set[str]] = {name: set() for name in found}
    for split in data.splits.values() if found else ():
        for text in split["text"]:
            values = tokenizer.template.values(text) or {}
            for name in found:
                known[name].add(values.get(name, ""))
    arrow: Mapping[str, str] = (data.statistics.get("source") or {}).get("arrow") or {}
    return {
        name: NewIdentifiers(
            name, columns[name], known[name], tokenizer, seed, attempt, _largest_of(arrow.get(name, ""))
        )
        for name in found
    }


def _largest_of(arrow: str) -> int | None:
    """Return the largest number of an Arrow type of integers; None for another type."""
    found = re.fullmatch(r"(u?)int(\d+)", arrow)
    return None if found is None else 2 ** (int(found[2]) - (not found[1])) - 1
