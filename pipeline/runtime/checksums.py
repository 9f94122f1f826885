"""Checksums of a folder's files, for formats that do not notice damage themselves."""

import hashlib
from pathlib import Path

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record

NAME = "checksums.json"
# Beyond them a file is known by its size alone: reading a large corpus through before every step would take minutes.
HASHED_BYTES = 2**30


def write_checksums(folder: Path) -> None:
    """Write down size and SHA-256 of the files below a folder, the smallest first; of what is too much, the size."""
    paths = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: (path.stat().st_size, path))
    files, read = {}, 0
    for path in paths:
        read += path.stat().st_size
        files[str(path.relative_to(folder))] = _known_by(path, hashed=read <= HASHED_BYTES)
    write_record(folder / NAME, {"files": files})


def check_files(folder: Path, remedy: str) -> None:
    """Compare every file with what was written down of it.

    Raises:
        UserError: one is absent or has changed; the message names it and ends with `remedy`.
    """
    for name, known_by in read_record(folder / NAME, remedy)["files"].items():
        path = folder / name
        try:
            same = _known_by(path, hashed="sha256" in known_by) == known_by
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        if not same:
            raise UserError(f"{path} is damaged, or was changed by hand: it does not fit its checksum; {remedy}")


def _known_by(path: Path, hashed: bool) -> dict[str, int | str]:
    size = path.stat().st_size
    if not hashed:
        return {"size": size}
    with open(path, "rb") as file:
        return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
