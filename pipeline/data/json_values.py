"""Values of JSON that keep their types and their digits, or are refused."""

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

from pipeline.data.file_format import SINGLE_VALUES, finite
from pipeline.runtime.errors import UserError

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}


class InexactFloat(float):
    """Float of a JSON number with digits that a float does not keep.

    Attributes:
        literal: the number as the file holds it.
    """

    literal: str


def _number(literal: str) -> float:
    """Convert the literal of a number to a float, marked if the float differs from it."""
    value = float(literal)
    if repr(value) == literal or not math.isfinite(value):
        return value
    try:
        exact = Decimal(literal) == Decimal(repr(value))
    except InvalidOperation:  # the exponent exceeds that of any Decimal, so the float is 0
        exact = False
    if exact:
        return value
    marked = InexactFloat(value)
    marked.literal = literal
    return marked


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Create an object; a key that occurs twice is an error, since one of its values would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"the key {twice!r} occurs twice")
    return made


OBJECTS = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number)


def checked_object(where: str, value: object) -> dict[str, Any]:
    """Check that a value is an object.

    Raises:
        UserError: it is none; the message gives the place.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: not an object ({_KINDS.get(type(value), 'null')}); mend it")
    return value


def checked_value(where: str, column: str, value: object) -> object:
    """Check that a value is a single one which a file can hold again with every digit.

    Raises:
        UserError: the value is a list, an object, half a character or a number that is infinite or not kept.
    """
    if isinstance(value, (list, dict)):
        raise UserError(f"{where}: column {column!r} holds {_KINDS[type(value)]}; {SINGLE_VALUES}")
    if isinstance(value, str):
        return checked_text(where, column, value)
    if isinstance(value, InexactFloat):
        raise UserError(
            f"{where}: column {column!r} holds {_shortened(value.literal)}, with more digits than a number keeps; "
            "write it as text, in quotes"
        )
    return finite(where, column, value)


def checked_text(where: str, column: str, value: object) -> str | None:
    """Check that a value is text or null, and that UTF-8 can encode it.

    Raises:
        UserError: the value is of another type, or holds half a character.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        kind = _KINDS[float if isinstance(value, float) else type(value)]
        raise UserError(f"{where}: column {column!r} holds {kind}, not text; mend it or name another")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ord(value[error.start])
        raise UserError(f"{where}: \\u{half:04x} is half a character; mend it") from None
    return value


def _shortened(literal: str) -> str:
    return literal if len(literal) <= 40 else f"{literal[:39]}…"
