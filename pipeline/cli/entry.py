"""How a script begins and ends: its command is run, and an error becomes one line and an exit status."""

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
from pipeline.runtime.signals import CONTINUES, Interrupted, ignore_signals, raise_on_signals, received

# What the disk refuses with, and what to do: it is full, a quota or the largest size of a file is reached; or this
# user may not write.
NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"make room; {CONTINUES}")
# Seconds that another process than the first gives that one: to tell the same error, and then to have the launcher end
# this one; or to be gone, when a signal ends all.
ERROR_WAIT, SIGNAL_WAIT = 20.0, 3.0
NO_RIGHT = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "mend its rights, or name another folder")


class Command(Protocol):
    """A command module: a function that reads the command line and one that does the work."""

    def parse(self, description: str) -> argparse.Namespace:
        """Read the command line of a script with this description."""
        ...

    def run(self, arguments: argparse.Namespace) -> None:
        """Do the work."""
        ...


def run_script(description: str | None, command: Command) -> NoReturn:
    """Run a command module as a script.

    Args:
        description: the script's docstring, shown by `--help`.
        command: the module.
    """
    run(lambda: command.run(command.parse(description or "")))


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit status 2."""
    script = Path(sys.argv[0]).name
    raise_on_signals()
    try:
        try:
            main()
        finally:
            ignore_signals()  # it ends anyway
            release()
            leave()
    except (Exception, Interrupted) as error:
        if (stop := received()) is not None:  # whatever it has come out as
            # The launcher ends the others when one has ended: what there is to say, that one said, if it could.
            sys.exit(report(f"{script}: {stop}", stop.status, only_in_its_place=True))
        if isinstance(error, LostError):
            sys.exit(report(f"{script}: error: {one_line(str(error))}", 2, inherit()))
        if isinstance(error, UserError):
            sys.exit(report(f"{script}: error: {one_line(str(error))}", 2))
        if peer_lost(error):
            sys.exit(report(f"{script}: error: another process of this run has ended; {CONTINUES}", 2, inherit()))
        remedy = (NO_ROOM | NO_RIGHT).get(error.errno) if isinstance(error, OSError) else None
        if remedy is None:
            raise
        where = error.filename or "the disk"
        sys.exit(report(f"{script}: error: {where} cannot be written ({error.strerror}): {remedy}", 2))
    sys.exit(0)


def report(line: str, status: int, in_its_place: bool = False, only_in_its_place: bool = False) -> int:
    """Tell how this process ends.

    Args:
        line: that says so.
        status: the process's.
        in_its_place: whether the first of several processes is gone, and this one speaks for it.
        only_in_its_place: whether another process than the first is silent, unless it can still take that place.

    Returns:
        The status.
    """
    if not (is_first() or in_its_place):
        # The first has the same to say most often, and the launcher then ends this process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SIGNAL_WAIT if only_in_its_place else ERROR_WAIT)
        if only_in_its_place and not inherit():
            return status
    print(line, file=sys.stderr, flush=True)
    return status


def one_line(text: str) -> str:
    """Text as one line, with what a terminal would not print written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))
