"""File locks: one process at a time writes an experiment. A lock ends with the process that holds it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.runtime.errors import UserError

_held: dict[Path, IO[str]] = {}
_held_by_rank_0: set[Path] = set()


def claim(path: Path, what: str) -> None:
    """Hold a lock until `release` or the end of this process. A lock that this process holds already stays held.

    Args:
        path: lock file. It records its holder and stays on disk.
        what: name of the locked resource in the error message.

    Raises:
        UserError: another process holds the lock.
    """
    path = path.resolve()
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held to the end of the process)
    try:
        # Not flock: children of a killed process may outlive it and would keep that lock.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise UserError(f"{what} is being written by {holder}; wait until it ends, or stop it") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[path] = file


def leave_to_rank_0(path: Path) -> None:
    """Record a lock that rank 0 claims, so that this process can take it over with `inherit`."""
    _held_by_rank_0.add(path.resolve())


def inherit() -> bool:
    """Take the place of rank 0 after it has ended.

    The locks of rank 0 ended with it. Of the remaining processes one alone gets them.

    Returns:
        True if this process holds all of rank 0's locks now.
    """
    if not _held_by_rank_0:
        return False
    try:
        for path in _held_by_rank_0:
            claim(path, "this")
    except UserError:
        return False
    return True


def heritable(path: Path) -> IO[str] | None:
    """Lock a file for as long as it is open in this process or in a child that inherits it.

    Returns:
        The open file, or None if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (held until it is closed)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def release() -> None:
    """Release every lock that this process has claimed."""
    while _held:
        _held.popitem()[1].close()


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a lock, hold it inside the context, and release it."""
    with open(path, "a", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
