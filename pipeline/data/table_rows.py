"""A table's row as a text, and such a text as a row again."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.runtime.errors import UserError

CATEGORIES = 1000  # values of a column, beyond which it holds free text


NUMBERS = frozenset({"integer", "number"})
# What pandas, NumPy, R and spreadsheets write in the place of a number that is missing.
MISSING = frozenset({"nan", "NaN", "NAN", "-nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "NULL", "null", "None"})


class RowTemplate:
    """A sentence with a place for each of some columns.

    Args:
        pattern: text with `{column}` where a value goes; None for `column is value, …` with all of them.
        columns: that the table has.
        source: the table, for errors.

    Raises:
        UserError: it names no column or one that is not there, or two places touch, so that no row could be read back.
    """

    def __init__(self, pattern: str | None, columns: Sequence[str], source: str) -> None:
        self.pattern = pattern if pattern is not None else ", ".join(f"{name} is {{{name}}}" for name in columns)
        pieces = _pieces(self.pattern)
        self.columns = [name for _, name in pieces if name is not None]
        unknown = [name for name in self.columns if name not in columns]
        if unknown or not self.columns:
            what = f"names {', '.join(map(repr, unknown))}" if unknown else "names no column"
            raise UserError(f"--ROW_TEMPLATE {what}; {source} has {', '.join(columns)}, each written as {{column}}")
        touching = [b for (_, a), (literal, b) in itertools.pairwise(pieces) if a and b and not _bare(literal)]
        if touching or len(set(self.columns)) < len(self.columns):
            raise UserError(
                f"--ROW_TEMPLATE {self.pattern!r} cannot be read back: put words between its columns, and each once"
            )
        self._pieces = pieces
        places = "".join(re.escape(_bare(literal)) + ("(.*?)" if name is not None else "") for literal, name in pieces)
        self._expression = re.compile(places)

    def text(self, row: Mapping[str, Any]) -> str:
        """The sentence of a row; what is missing leaves its place empty."""
        values = {name: "" if row[name] is None else " ".join(str(row[name]).split()) for name in self.columns}
        return "".join(literal + (values[name] if name is not None else "") for literal, name in self._pieces)

    def values(self, text: str) -> dict[str, str] | None:
        """The values in a sentence; None if it is no such sentence.

        White space counts for nothing in between, since no tokenizer keeps it as it was.
        """
        found = self._expression.fullmatch(_bare(text))
        if found is None:
            return None
        places = [place for place, character in enumerate(text) if not character.isspace()]
        spans = (found.span(number) for number in range(1, len(self.columns) + 1))
        values = (text[places[start] : places[end - 1] + 1] if start < end else "" for start, end in spans)
        return dict(zip(self.columns, values, strict=True))


class ColumnTypes:
    """What the columns of a table hold: `integer` or `number` within a range, `boolean`, `category` or `text`.

    Missing values are none of these; nor are, beside numbers, the words that stand for a missing one (`MISSING`).

    Args:
        known: what `to_json` gave.
        spelt: whether values come as they are spelt, whatever they are: in CSV a number is a text, too.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]] | None = None, spelt: bool = False) -> None:
        self._spelt = spelt
        self._seen: dict[str, _Seen] = {}
        self._known = {name: dict(column) for name, column in (known or {}).items()}

    def see(self, row: Mapping[str, Any]) -> None:
        """Take a row into account."""
        for name, value in row.items():
            self._seen.setdefault(name, _Seen()).add(value)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Each column's kind, with its range or its values; `text` where its numbers were texts and remain so."""
        return self._known | {name: seen.described(self._spelt) for name, seen in self._seen.items()}

    def row(self, values: Mapping[str, str] | None) -> dict[str, Any] | None:
        """Values in the types of their columns; None if one of them is no value of its column."""
        if values is None:
            return None
        row = {}
        for name, value in values.items():
            try:
                row[name] = self.value(name, value)
            except (KeyError, ValueError):
                return None
        return row

    def value(self, name: str, text: str) -> Any:
        """A value in the type of its column; None where it is missing, and the text itself of an unknown column.

        Raises:
            KeyError, ValueError: it is no value of that column.
        """
        if not text:
            return None
        column = self.to_json().get(name)
        return text if column is None else _typed(text, column)


class _Seen:
    """The values of one column so far."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.values: dict[str, None] | None = {}
        self.low, self.high = math.inf, -math.inf
        self.texts = True  # and no numbers, however they are spelt
        self.missing: set[str] = set()

    def add(self, value: Any) -> None:
        """Counts a value in; one that is missing says nothing of the column."""
        if value is None or value == "":
            return
        kind = _kind(value)
        self.kinds.add(kind)
        self.texts = self.texts and isinstance(value, str)
        if kind == "missing":
            self.missing.add(value.strip())
        if kind in NUMBERS:
            # A float would round a large integer, and a bound that is rounded is another.
            number = (int if kind == "integer" else float)(value)
            self.low, self.high = min(self.low, number), max(self.high, number)
        if self.values is not None:
            self.values.setdefault(" ".join(str(value).split()))
            if len(self.values) > CATEGORIES:
                self.values = None

    def described(self, spelt: bool) -> dict[str, Any]:
        """The column's kind and what its values must lie in, as JSON has it."""
        if self.kinds == {"boolean"}:
            return {"kind": "boolean"}
        kinds = self.kinds - {"missing"}
        if kinds and kinds <= NUMBERS:
            column = {"kind": "integer" if kinds == {"integer"} else "number", "low": self.low, "high": self.high}
            column |= {"missing": sorted(self.missing)} if self.missing else {}
            return column | ({"text": True} if self.texts and not spelt else {})
        return {"kind": "text"} if self.values is None else {"kind": "category", "values": sorted(self.values)}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    text = str(value).strip()
    if text in MISSING:
        return "missing"
    number = re.fullmatch(r"-?(?:(0|[1-9]\d*)|\d+\.\d+(?:[eE][-+]?\d+)?)", text)  # 007 is a name
    if number is None or not math.isfinite(float(text)):  # so many digits are a name, too
        return "text"
    return "integer" if number[1] else "number"


def _typed(text: str, column: Mapping[str, Any]) -> Any:
    kind, value = column["kind"], _bare(text)
    if kind in NUMBERS:
        if value in column.get("missing", ()):
            return value
        number = int(value) if kind == "integer" or re.fullmatch(r"-?\d+", value) else float(value)
        if not column["low"] <= number <= column["high"]:
            raise ValueError("outside of what the column holds")
        if not column.get("text"):
            return number
        if _kind(value) not in NUMBERS:
            raise ValueError("spelt as no number of the column is")
        return value
    if kind == "boolean":
        return {"True": True, "False": False}[value]
    if kind == "category":
        if text in column["values"]:  # of two that differ in white space alone, this one
            return text
        return {_bare(known): known for known in column["values"]}[value]
    return text


def _bare(text: str) -> str:
    return "".join(character for character in text if not character.isspace())


def _pieces(pattern: str) -> list[tuple[str, str | None]]:
    """Words and the column that follows them, in turn; None behind the last words.

    As `str.format` reads it, except that `:`, `!` and `[` may stand in a column's name.
    """
    pieces, words = [], ""
    for literal, brace, name in re.findall(r"([^{}]+)|(\{\{|\}\}|[{}](?![^{}]*\}))|\{([^{}]*)\}", pattern):
        if literal:
            words += literal
        elif len(brace) == 2:
            words += brace[0]
        elif brace:
            raise UserError(f"--ROW_TEMPLATE {pattern!r} has a single {brace}; write {{column}}, or {brace * 2}")
        else:
            pieces.append((words, name))
            words = ""
    return [*pieces, (words, None)] if words else pieces


def check_labels(labels: Iterable[str], column: str) -> None:
    """See to it that a column's values are labels.

    Raises:
        UserError: there are more than a thousand different ones.
    """
    if len(set(labels)) > CATEGORIES:
        raise UserError(f"--LABEL_COLUMN {column} has more than {CATEGORIES} different values; name one with few")
