"""A JSON array (`.json`): each of its objects is a row whose keys are the columns."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.file_format import Columns
from pipeline.data.json_lines_format import JsonLinesFormat
from pipeline.data.json_values import OBJECTS, checked_object
from pipeline.data.text_files import line_ends, pieces
from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import write_text

_SPACE = re.compile(r"[ \t\r\n]*")
_LITERAL = 16  # characters before the end of a piece in which a literal such as -Infinity may be incomplete


class JsonArrayFormat(JsonLinesFormat):
    """An array of objects, read object by object."""

    suffix = ".json"
    unit = "row"
    note = "an array of objects"

    def write(
        self, path: Path, rows: Sequence[Mapping[str, Any]], columns: Columns, types: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Write an array with an object for each row, an object a line, with its keys in the order of the row."""
        objects = ",\n".join(json.dumps(dict(row), ensure_ascii=False) for row in rows)
        write_text(path, f"[\n{objects}\n]\n" if rows else "[]\n")

    def _objects(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        text = _Text(path)
        first = text.next()
        if first is None:
            return  # white space alone holds no row
        if first != "[":
            what = "an object; name a file of JSON lines .jsonl" if first == "{" else "no array; mend the file"
            raise UserError(f"{path}, line {text.line}: not an array of objects, but {what}")
        number, mark = 0, "["
        while mark != "]":
            text.skip()
            if number == 0 and text.next() == "]":
                mark = "]"
                continue
            number += 1
            yield number, text.object(number)
            mark = text.next()
            if mark not in (",", "]"):
                raise UserError(
                    f"{path}, row {number}, line {text.line}: not valid JSON (expecting ',' or ']' behind the row); "
                    "mend the file"
                )
        text.skip()
        if text.next() is not None:
            raise UserError(f"{path}, line {text.line}: not valid JSON (text behind the array); mend the file")


class _Text:
    """Text of a file, of which no more is held than the object that is parsed.

    Args:
        path: file to read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._pieces = path, pieces(path)
        self._held, self._at = "", 0
        self._lines = 1  # number of the line in which the held text begins

    @property
    def line(self) -> int:
        """Number of the current line."""
        return self._lines + line_ends(self._held[: self._at])

    def next(self) -> str | None:
        """Return the next character that is no white space, and stay before it; None at the end of the file."""
        while True:
            self._at = _SPACE.match(self._held, self._at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more(1):
                return None

    def skip(self) -> None:
        """Move behind the next character."""
        self._at += 1

    def object(self, number: int) -> dict[str, Any]:
        """Parse the next value and move behind it.

        Args:
            number: its row, for error messages.

        Raises:
            UserError: the value is no object, or cannot be parsed.
        """
        where = f"{self._path}, row {number}"
        if self.next() not in ("{", None):
            return checked_object(where, self._other(where))
        while True:
            try:
                row, self._at = OBJECTS.raw_decode(self._held, self._at)
                return checked_object(where, row)
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                incomplete = open_string or error.pos >= len(self._held) - _LITERAL
                # As much again is read, so that a long object is not parsed from its start for every piece.
                if not (incomplete and self._more(len(self._held) - self._at)):
                    line = self._lines + line_ends(self._held[: error.pos])
                    raise UserError(f"{where}, line {line}: not valid JSON ({error.msg}); mend the row") from None
            except (ValueError, RecursionError) as error:  # a repeated key, too many digits, lists nested too deep
                raise UserError(f"{where}: cannot be read ({first_line(error)}); mend the row") from None

    def _other(self, where: str) -> Any:
        """Parse a value that is no object, for the error message about it."""
        while len(self._held) - self._at < _LITERAL and self._more(1):
            pass
        try:
            return OBJECTS.raw_decode(self._held, self._at)[0]
        except (ValueError, RecursionError) as error:
            if self._held[self._at] in '["':  # a list or a text, longer than what is held
                return [] if self._held[self._at] == "[" else ""
            reason = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
            raise UserError(f"{where}, line {self.line}: not valid JSON ({reason}); mend the row") from None

    def _more(self, characters: int) -> bool:
        """Drop what is parsed and read at least so many characters; return False at the end of the file."""
        self._lines += line_ends(self._held[: self._at])
        parts, length = [self._held[self._at :]], 0
        self._at = 0
        for piece in self._pieces:
            parts.append(piece)
            length += len(piece)
            if length >= characters:
                break
        self._held = "".join(parts)
        return length > 0
