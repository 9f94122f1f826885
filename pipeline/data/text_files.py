"""Lines of text files in UTF-8; an error gives the line and the byte offset."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from pipeline.runtime.errors import UserError

# UTF-32 comes first: its little-endian mark begins with the mark of UTF-16.
_WIDE = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}


def lines(path: Path) -> Iterator[str]:
    r"""Read the lines of a text file, each with its end: `\n`, `\r\n` or `\r`.

    The file is in UTF-8, with or without a byte order mark.

    Raises:
        UserError: the file is in another encoding or holds a NUL byte.
        OSError: the file cannot be read.
    """
    number, offset = 1, 0  # of the next line, and of its first byte
    with open(path, "rb") as file:
        for data in file:
            if offset == 0:
                _refuse_wide(path, data)
            text = _decoded(path, data, number, offset)
            offset += len(data)
            for line in io.StringIO(text, newline=""):
                number += 1
                yield line


def _refuse_wide(path: Path, data: bytes) -> None:
    """Refuse text with the byte order mark of UTF-16 or UTF-32."""
    for encoding, marks in _WIDE.items():
        if data.startswith(marks):
            raise UserError(f"{path} is in {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8")


def _decoded(path: Path, data: bytes, number: int, offset: int) -> str:
    r"""Decode bytes that end with `\n` or with the file; they begin at line `number` and byte `offset`."""
    if b"\0" in data:
        _refuse_byte(path, data, number, offset, data.index(b"\0"), "a NUL byte, as in UTF-16 or in no text at all")
    try:
        return data.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark where there was one.
        at = error.start + len(data) - len(error.object)
        _refuse_byte(path, data, number, offset, at, f"no UTF-8 (byte 0x{data[at]:02x})")


def _refuse_byte(path: Path, data: bytes, number: int, offset: int, at: int, reason: str) -> NoReturn:
    line = number + data.count(b"\r", 0, at)
    raise UserError(f"{path}, line {line}, byte offset {offset + at}: {reason}; save the file in UTF-8")
