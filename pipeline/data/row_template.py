r"""A table's row as a text, and such a text as a row again.

A template is a text with `{column}` where a value goes. `{{` and `}}` are braces of the text. In the name of a column,
`\{` and `\}` are braces, `\n` is a line break and `\\` a backslash: `costs {price \{EUR\}}`.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from pipeline.data.cleaning import without_space
from pipeline.runtime.errors import UserError

_ESCAPES = {"{": "{", "}": "}", "n": "\n", "\\": "\\"}
_PARTS = re.compile(r"\{\{|\}\}|\{((?:\\.|[^{}\\])*)\}|([{}])|[^{}]+", re.DOTALL)


class RowTemplate:
    """A sentence with a place for each of some columns.

    Args:
        pattern: text with `{column}` where a value goes; None for `column is value, …` with all columns.
        columns: column names of the table.
        source: name of the table, for error messages.
        lossless: False for texts of a tokenizer that does not keep white space, which then does not affect a match.

    Raises:
        UserError: the pattern names no column or an unknown one, or two places touch, so that no row could be read
            back.
    """

    def __init__(self, pattern: str | None, columns: Sequence[str], source: str, lossless: bool = True) -> None:
        self.pattern = pattern if pattern is not None else default_pattern(columns)
        self._lossless = lossless
        pieces = _pieces(self.pattern)
        self.columns = [name for _, name in pieces if name is not None]
        unknown = [name for name in self.columns if name not in columns]
        if unknown or not self.columns:
            what = f"names {', '.join(map(repr, unknown))}" if unknown else "names no column"
            raise UserError(
                f"--ROW_TEMPLATE {what}; {source} has {', '.join(map(escaped, columns))}, each written as {{column}}"
            )
        touching = [
            words
            for (_, a), (words, b) in itertools.pairwise(pieces)
            if None not in (a, b) and not without_space(words)
        ]
        if touching or len(set(self.columns)) < len(self.columns):
            raise UserError(
                f"--ROW_TEMPLATE {self.pattern!r} cannot be read back: put words between its columns, and each once"
            )
        self._pieces = pieces

    def text(self, values: Mapping[str, str]) -> str:
        """Write the spelled values of a row as a sentence."""
        return "".join(words + (values[name] if name is not None else "") for words, name in self._pieces)

    def values(self, text: str) -> dict[str, str] | None:
        """Read the spelled values of a sentence; None if the sentence does not match the template."""
        if self._lossless:
            found = self._spans(text, [words for words, _ in self._pieces])
            return None if found is None else self._named([text[start:end] for start, end in found])
        found = self._spans(without_space(text), [without_space(words) for words, _ in self._pieces])
        if found is None:
            return None
        places = [place for place, character in enumerate(text) if not character.isspace()]
        return self._named([text[places[start] : places[end - 1] + 1] if start < end else "" for start, end in found])

    def _named(self, values: list[str]) -> dict[str, str]:
        return dict(zip(self.columns, values, strict=True))

    def _spans(self, text: str, words: list[str]) -> list[tuple[int, int]] | None:
        """Find the places of the values: each ends where the words behind it occur first."""
        if not text.startswith(words[0]):
            return None
        start, found = len(words[0]), []
        ending = words[-1] if self._pieces[-1][1] is None else ""
        for behind in words[1 : len(self.columns)]:
            end = text.find(behind, start)
            if end < 0:
                return None
            found.append((start, end))
            start = end + len(behind)
        if not text.endswith(ending) or start > len(text) - len(ending):
            return None
        return [*found, (start, len(text) - len(ending))]

    def ambiguous(self, values: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the column of a row whose value holds the words behind its place, and these words.

        None if the row can be read back from its text.
        """
        if not self._lossless:
            return None
        found = self.values(self.text(values)) or {}
        wrong = next((name for name in self.columns if found.get(name) != values[name]), None)
        if wrong is None:
            return None
        number = self.columns.index(wrong) + 1
        return wrong, self._pieces[number][0]


def default_pattern(columns: Sequence[str]) -> str:
    """Return `column is {column}, …` with the names escaped."""
    return ", ".join(f"{_literal(name)} is {{{escaped(name)}}}" for name in columns)


def escaped(name: str) -> str:
    """Escape the name of a column for its place in a template."""
    return re.sub(r"([\\{}])", r"\\\1", name).replace("\n", r"\n")


def _literal(text: str) -> str:
    """Double the braces of words in a template."""
    return re.sub(r"([{}])", r"\1\1", text)


def _pieces(pattern: str) -> list[tuple[str, str | None]]:
    """Parse a pattern into pairs of words and the column behind them; None behind the last words."""
    pieces: list[tuple[str, str | None]] = []
    words = ""
    for part in _PARTS.finditer(pattern):
        if part[1] is not None:
            pieces.append((words, re.sub(r"\\([{}n\\])", lambda one: _ESCAPES[one[1]], part[1])))
            words = ""
        elif part[2] is not None:
            brace = part[2]
            raise UserError(
                f"--ROW_TEMPLATE {pattern!r} has a single {brace}; write {{column}}, {brace * 2} for a brace of the "
                f"text, or \\{brace} for one in a column's name"
            )
        else:
            words += part[0][0] if part[0] in ("{{", "}}") else part[0]
    return [*pieces, (words, None)] if words or not pieces else pieces
