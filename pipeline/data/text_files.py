"""Text files in UTF-8, compressed with gzip or not; an error gives the line and the byte offset."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from pipeline.runtime.errors import UserError, first_line
from pipeline.runtime.files import write_text

COMPRESSED = ".gz"
PIECE_BYTES = 2**16

# UTF-32 comes first: its little-endian mark begins with the mark of UTF-16.
_WIDE = {"UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)}


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes, those of a `.gz` file decompressed.

    Raises:
        UserError: the compressed file is damaged.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        if path.suffix.lower() != COMPRESSED:
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as content:
                yield cast(BinaryIO, content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} cannot be read as gzip ({first_line(error)}); compress it anew") from None


def lines(path: Path) -> Iterator[str]:
    r"""Read the lines of a text file, each with its end: `\n`, `\r\n` or `\r`.

    The file is in UTF-8, with or without a byte order mark; a `.gz` file is decompressed. Byte offsets in messages are
    those of the decompressed text.

    Raises:
        UserError: the file is in another encoding, holds a NUL byte or is damaged.
        OSError: the file cannot be read.
    """
    number, offset = 1, 0  # of the next line, and of its first byte
    with unpacked(path) as file:
        for data in file:
            text = _decoded(path, data, number, offset)
            offset += len(data)
            for line in io.StringIO(text, newline=""):
                number += 1
                yield line


def pieces(path: Path) -> Iterator[str]:
    """Read a text file in pieces of at most about `PIECE_BYTES` bytes, for a format without lines.

    It reads and raises what `lines` does.
    """
    number, offset, rest = 1, 0, b""
    with unpacked(path) as file:
        while read := file.read(PIECE_BYTES):
            data, rest = _whole_characters(rest + read)
            if data:
                yield _decoded(path, data, number, offset)
            number, offset = number + line_ends(data), offset + len(data)
        if rest:
            yield _decoded(path, rest, number, offset)


def line_ends(text: str | bytes) -> int:
    r"""Count the line ends of a text: `\n`, `\r\n` and `\r`."""
    if isinstance(text, str):
        return len(re.findall(r"\r\n|\r|\n", text))
    return len(re.findall(rb"\r\n|\r|\n", text))


def write_lines(path: Path, text: str) -> None:
    """Write a text file that is read back with each of its characters, whole or not at all.

    Before a text that begins with the character of the byte order mark, a mark is written: a reader removes one.
    """
    mark = "\ufeff"
    write_text(path, mark + text if text.startswith(mark) else text)


def _whole_characters(data: bytes) -> tuple[bytes, bytes]:
    r"""Divide bytes before the last character if it may be incomplete, or is a `\r` that a `\n` may follow."""
    if data.endswith(b"\r"):
        return data[:-1], data[-1:]
    for length in range(1, min(4, len(data)) + 1):
        lead = data[-length]
        if lead >= 0xC0 and length < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4):
            return data[:-length], data[-length:]
        if not 0x80 <= lead < 0xC0:
            break
    return data, b""


def _refuse_wide(path: Path, data: bytes) -> None:
    """Refuse text with the byte order mark of UTF-16 or UTF-32."""
    for encoding, marks in _WIDE.items():
        if data.startswith(marks):
            raise UserError(f"{path} is in {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8")


def _decoded(path: Path, data: bytes, number: int, offset: int) -> str:
    """Decode bytes of whole characters; they begin at line `number` and byte `offset`."""
    if offset == 0:
        _refuse_wide(path, data)
    if b"\0" in data:
        _refuse_byte(path, data, number, offset, data.index(b"\0"), "a NUL byte, as in UTF-16 or in no text at all")
    try:
        return data.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark where there was one.
        at = error.start + len(data) - len(error.object)
        _refuse_byte(path, data, number, offset, at, f"no UTF-8 (byte 0x{data[at]:02x})")


def _refuse_byte(path: Path, data: bytes, number: int, offset: int, at: int, reason: str) -> NoReturn:
    line = number + line_ends(data[:at])
    raise UserError(f"{path}, line {line}, byte offset {offset + at}: {reason}; save the file in UTF-8")
