"""A lock on what one process at a time may write; it dies with the process that holds it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.runtime.errors import UserError

_held: dict[Path, IO[str]] = {}
_of_the_first: set[Path] = set()  # what the first of several processes holds


def claim(path: Path, what: str) -> None:
    """Hold a lock until `release` or the end of this process; claiming it again is no change.

    Args:
        path: of the lock file, which says who holds it and stays on disk.
        what: is written, for the message.

    Raises:
        UserError: another process holds it.
    """
    path = path.resolve()
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held to the end of the process)
    try:
        # Not flock: children of a killed process may live on, and would hold that on.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UserError(f"{what} is being written by {holder}; wait until that has ended, or stop it") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[path] = file


def leave_to_the_first(path: Path) -> None:
    """Remember a lock that the first of several processes claims, and this one does not."""
    _of_the_first.add(path.resolve())


def inherit() -> bool:
    """Take the place of the first of several processes, which has ended; says whether this one has it now.

    The first one's locks died with it. Of those that are left one alone gets them.
    """
    if not _of_the_first:
        return False
    try:
        for path in _of_the_first:
            claim(path, "this")
    except UserError:
        return False
    return True


def heritable(path: Path) -> IO[str] | None:
    """A lock for as long as the file is open here or in a process that was started with it; None if it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (held until it is closed)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def release() -> None:
    """Let go of all that this process holds, as its end does."""
    while _held:
        _held.popitem()[1].close()


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process is within the same lock file's turn, and be alone in it."""
    with open(path, "a", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
