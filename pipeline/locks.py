"""A lock on what one process at a time may write; it dies with the process that holds it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.errors import UserError

_held: dict[Path, IO[str]] = {}


def claim(path: Path, what: str) -> None:
    """Hold a lock until `release` or the end of this process; claiming it again is no change.

    Args:
        path: of the lock file, which says who holds it and stays on disk.
        what: is written, for the message.

    Raises:
        UserError: another process holds it.
    """
    holder = _take(path)
    if holder is not None:
        raise UserError(f"{what} is being written by {holder}; wait until that has ended, or stop it")


def attempt(path: Path) -> bool:
    """Hold a lock as `claim` does, unless another process holds it; says whether this one does."""
    return _take(path) is None


def give_up(path: Path) -> None:
    """Let go of one lock."""
    file = _held.pop(path.resolve(), None)
    if file is not None:
        file.close()


def _take(path: Path) -> str | None:
    """Hold a lock; who holds it where that is another."""
    path = path.resolve()
    if path in _held:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held to the end of the process)
    try:
        # Not flock: children of a killed process may live on, and would hold that on.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        return holder
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[path] = file
    return None


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
