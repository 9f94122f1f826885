"""Values of Arrow's types: read as text, numbers or truth values, and converted back exactly.

pyarrow loads only when such a value is read or written: this module is imported while a command line is parsed.
"""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_FRACTION = re.compile(r"\.\d*[1-9]")  # of a second
_EPOCH = "1970-01-01 "  # date before a time of day, which Arrow parses as a part of a timestamp alone


def arrow_type(text: str) -> "pa.DataType":
    """Return the type that `str` writes so.

    Raises:
        ValueError: no type of a column of single values is written so.
    """
    import pyarrow as pa

    if found := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=([01])>", text):
        return pa.dictionary(pa.type_for_alias(found[2]), arrow_type(found[1]), found[3] == "1")
    if found := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", text):
        return pa.timestamp(found[1], found[2])
    if found := re.fullmatch(r"(decimal\d+)\((\d+), (-?\d+)\)", text):
        return getattr(pa, found[1])(int(found[2]), int(found[3]))
    return pa.type_for_alias(text)


def is_text(kind: "pa.DataType") -> bool:
    """Return True for a type of text, also in a dictionary."""
    from pyarrow import types

    return any(fits(_plain(kind)) for fits in (types.is_string, types.is_large_string, types.is_string_view))


def is_single(kind: "pa.DataType") -> bool:
    """Return True for a type of text, numbers, truth values, dates, times, decimals or missing values alone.

    A dictionary of such values is one, too.
    """
    from pyarrow import types

    plain = _plain(kind)
    return (
        is_text(plain)
        or _is_time(plain)
        or any(
            fits(plain)
            for fits in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
        )
    )


def python_values(array: "pa.Array") -> list[Any]:
    """Convert an array to Python values; a missing value is None.

    Dates, times, timestamps and decimals become strings: ISO 8601 with a space before the time, without fractions
    if all are zeros, with the offset of a time zone; decimals with all their digits. A float of 16 or 32 bits becomes
    the float with the fewest digits that rounds to it, or stays itself as a whole number below 2**24.

    Raises:
        ValueError: a value has no string that converts back to it; the argument is its index in the array.
    """
    from pyarrow import types

    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if _is_time(kind):
        texts = array.cast("string").to_pylist()
        # All have a fraction or none, so that they have one form.
        whole = not any(text is not None and _FRACTION.search(text) for text in texts)
        return _exact([_iso(text, whole) for text in texts], array)
    values = array.to_pylist()
    if types.is_decimal(kind):
        return _exact([None if value is None else format(value, "f") for value in values], array)
    if types.is_float16(kind) or types.is_float32(kind):
        return [_shortest(value, f"float{kind.bit_width}") for value in values]
    return values


def array_of(name: str, values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """Convert Python values to an array; strings are parsed for a type that is no text.

    Raises:
        ValueError: a value is none of this type; the message names it and the column.
    """
    from pyarrow import types

    plain = _plain(kind)
    try:
        made = _array(values, plain)
    except _errors():
        for value in values:
            try:
                _array([value], plain)
            except _errors():
                raise ValueError(f"column {name!r}: {value!r} is no value of the type {plain}") from None
        raise
    return made.dictionary_encode().cast(kind) if types.is_dictionary(kind) else made


def _errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return pa.ArrowException, TypeError, ValueError, OverflowError, ArithmeticError


def _plain(kind: "pa.DataType") -> "pa.DataType":
    """Return the type of the values, which a dictionary holds once each."""
    import pyarrow as pa

    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _is_time(kind: "pa.DataType") -> bool:
    """Return True for dates, times of day and timestamps."""
    from pyarrow import types

    return types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind)


def _iso(text: str | None, whole: bool) -> str | None:
    """Leave out the fractions of whole seconds, and write the offset of a time zone with a colon."""
    if text is None:
        return None
    text = re.sub(r"\.0+(?=$|Z|[+-]\d{4}$)", "", text) if whole else text
    return re.sub(r"(:\d\d(?:\.\d+)?[+-]\d\d)(\d\d)$", r"\1:\2", text)


def _exact(texts: list[str | None], array: "pa.Array") -> list[str | None]:
    """Check that strings convert back to the values of an array."""
    try:
        if _array(texts, array.type).equals(array):
            return texts
    except _errors():
        pass
    for number, text in enumerate(texts):
        try:
            same = _array([text], array.type).equals(array.slice(number, 1))
        except _errors():
            same = False
        if not same:
            raise ValueError(number)
    return texts


def _shortest(value: float | None, dtype: str) -> float | None:
    """Return the float with the fewest digits that rounds to a float of fewer bits."""
    import numpy as np

    if value is None or not math.isfinite(value) or (value.is_integer() and abs(value) < 2**24):
        return value
    short = float(str(np.dtype(dtype).type(value)))
    return short if np.dtype(dtype).type(short) == value else value


def _array(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """Convert values to an array of a type without a dictionary; a value that would change is an error."""
    import pyarrow as pa
    from pyarrow import types

    if is_text(kind) or types.is_null(kind):
        return pa.array(values, kind)
    if types.is_decimal(kind):
        return pa.array([Decimal(value) if isinstance(value, str) else value for value in values], kind)
    if types.is_time(kind):
        moments = [None if value is None else _EPOCH + value for value in values]
        return pa.array(moments, "string").cast(pa.timestamp(kind.unit)).cast(kind)
    if _is_time(kind):
        return pa.array(values, "string").cast(kind)
    # A number and a string of one column are converted apart: Arrow takes no list of both.
    parsed = pa.array([value if isinstance(value, str) else None for value in values], "string").cast(kind).to_pylist()
    wanted = [new if isinstance(value, str) else value for value, new in zip(values, parsed, strict=True)]
    made = pa.array(wanted, kind)
    if not all(_kept(value, new) for value, new in zip(wanted, made.to_pylist(), strict=True)):
        raise ValueError("Arrow cuts a fraction off, and makes a large number infinite")
    return made


def _kept(value: Any, made: Any) -> bool:
    """Return True if a value of an array is the value that it was made of, or this rounded to a float."""
    if isinstance(made, float):
        return math.isfinite(made) == math.isfinite(value)
    return value == made
