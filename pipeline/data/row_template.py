"""A table's row as a text, and such a text as a row again."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.cleaning import clean_none, without_space
from pipeline.runtime.errors import UserError


class RowTemplate:
    """A sentence with a place for each of some columns.

    Args:
        pattern: text with `{column}` where a value goes; None for `column is value, …` with all columns.
        columns: column names of the table.
        source: name of the table, for error messages.

    Raises:
        UserError: the pattern names no column or an unknown one, or two places touch, so that no row could be read
            back.
    """

    def __init__(self, pattern: str | None, columns: Sequence[str], source: str) -> None:
        self.pattern = pattern if pattern is not None else ", ".join(f"{name} is {{{name}}}" for name in columns)
        pieces = _pieces(self.pattern)
        self.columns = [name for _, name in pieces if name is not None]
        unknown = [name for name in self.columns if name not in columns]
        if unknown or not self.columns:
            what = f"names {', '.join(map(repr, unknown))}" if unknown else "names no column"
            raise UserError(f"--ROW_TEMPLATE {what}; {source} has {', '.join(columns)}, each written as {{column}}")
        touching = [b for (_, a), (words, b) in itertools.pairwise(pieces) if a and b and not without_space(words)]
        if touching or len(set(self.columns)) < len(self.columns):
            raise UserError(
                f"--ROW_TEMPLATE {self.pattern!r} cannot be read back: put words between its columns, and each once"
            )
        self._pieces = pieces
        places = [re.escape(without_space(words)) + ("(.*?)" if name is not None else "") for words, name in pieces]
        self._expression = re.compile("".join(places))

    def text(self, row: Mapping[str, Any]) -> str:
        """Write a row as a sentence; a missing value leaves its place empty."""
        values = {name: "" if row[name] is None else clean_none(str(row[name])) for name in self.columns}
        return "".join(words + (values[name] if name is not None else "") for words, name in self._pieces)

    def values(self, text: str) -> dict[str, str] | None:
        """Read the values of a sentence; None if the sentence does not match the template.

        White space does not affect the match, since tokenizers do not preserve it.
        """
        found = self._expression.fullmatch(without_space(text))
        if found is None:
            return None
        places = [place for place, character in enumerate(text) if not character.isspace()]
        spans = (found.span(number) for number in range(1, len(self.columns) + 1))
        values = (text[places[start] : places[end - 1] + 1] if start < end else "" for start, end in spans)
        return dict(zip(self.columns, values, strict=True))


def _pieces(pattern: str) -> list[tuple[str, str | None]]:
    """Parse a pattern into pairs of words and the column behind them; None behind the last words.

    The syntax is that of `str.format`, except that `:`, `!` and `[` may be part of a column's name.
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
