"""Run a script: its command module does the work, and an error becomes one line and an exit status."""

import argparse
import errno
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from pipeline.runtime.errors import LostError, UserError
from pipeline.runtime.locks import inherit, release
from pipeline.runtime.processes import is_first, leave, peer_lost
from pipeline.runtime.signals import Interrupted, continues, ignore_signals, raise_on_signals, received

# Errors of the file system that a user can remedy. The first ones: the disk is full, or a quota or the largest size of
# a file is reached.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REMEDIES: dict[int | None, str] = dict.fromkeys(NO_ROOM, "make room")
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "mend its rights, or name another folder")
# Seconds that every other rank waits for rank 0 before it exits. After an error, rank 0 reports it first and the
# launcher then ends this process. After a signal, rank 0 only has to end.
ERROR_WAIT, SIGNAL_WAIT = 20.0, 3.0


class Command(Protocol):
    """A command module: one function parses the command line, and one does the work."""

    def parse(self, description: str) -> argparse.Namespace:
        """Parse the command line of a script with this description."""
        ...

    def run(self, arguments: argparse.Namespace) -> None:
        """Do the work of the script."""
        ...


def run_script(description: str | None, command: Command) -> NoReturn:
    """Run a command module as a script.

    Args:
        description: docstring of the script, the text of `--help`.
        command: its command module.
    """
    run(lambda: command.run(command.parse(description or "")))


def run(main: Callable[[], None]) -> NoReturn:
    """Run `main` and exit. A `UserError` becomes one line on stderr and exit status 2."""
    script = Path(sys.argv[0]).name
    raise_on_signals()
    try:
        try:
            main()
        finally:
            ignore_signals()  # the process ends in any case
            release()
            leave()
    except (Exception, Interrupted) as error:
        if (stop := received()) is not None:  # libraries may have turned the interruption into another exception
            # The launcher ends all processes as soon as one has ended, so one report is enough.
            sys.exit(report(f"{script}: {stop}", stop.status, only_in_its_place=True))
        if isinstance(error, LostError):
            sys.exit(report(f"{script}: error: {one_line(str(error))}", 2, inherit()))
        if isinstance(error, UserError):
            sys.exit(report(f"{script}: error: {one_line(str(error))}", 2))
        if peer_lost(error):
            sys.exit(report(f"{script}: error: another process of this run has ended; {continues()}", 2, inherit()))
        if (refusal := refused_by_disk(error)) is None:
            raise
        where, remedy = refusal.filename or "the disk", REMEDIES[refusal.errno]
        if refusal.errno in NO_ROOM:
            remedy += f"; {continues()}"
        sys.exit(report(f"{script}: error: {where} cannot be written ({refusal.strerror}): {remedy}", 2))
    sys.exit(0)


def refused_by_disk(error: BaseException) -> OSError | None:
    """Error of the file system that the user can remedy, or None.

    A library that closes its file after the disk is full may raise another exception while it handles that error.
    """
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return error
    earlier: BaseException | None = error
    while earlier is not None:
        if isinstance(earlier, OSError) and earlier.errno in NO_ROOM:
            return earlier
        earlier = earlier.__context__
    return None


def report(line: str, status: int, in_its_place: bool = False, only_in_its_place: bool = False) -> int:
    """Print the line with which this process ends. Only rank 0 prints at once.

    Args:
        line: message.
        status: exit status of this process.
        in_its_place: True if rank 0 is gone and this process prints instead.
        only_in_its_place: True if another rank prints only after it has taken the place of rank 0.

    Returns:
        `status`.
    """
    if not (is_first() or in_its_place):
        # Rank 0 usually reports the same error, and the launcher then ends this process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SIGNAL_WAIT if only_in_its_place else ERROR_WAIT)
        if only_in_its_place and not inherit():
            return status
    # In one write: the launcher may report at the same time, and `print` writes the line's end apart from the line.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    return status


def one_line(text: str) -> str:
    """Return a text as one line, with every character that is not printable escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))
