"""Signals that ask a process to end: told as an exception, at once or where it does no harm."""

import ctypes
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
CONTINUES = "the same command continues"
_received: list["Interrupted"] = []


class Interrupted(KeyboardInterrupt):
    """The process was asked to end.

    Args:
        number: of the signal.
        state: what is saved and how to go on, for the user.
    """

    def __init__(self, number: int, state: str = f"interrupted; {CONTINUES}") -> None:
        super().__init__(state)
        self.number = number
        _received.append(self)

    @property
    def status(self) -> int:
        """The exit status that a shell gives a process that this signal ended."""
        return 128 + self.number


def raise_on_signals() -> None:
    """From here on a signal that asks the process to end raises `Interrupted` wherever the process is."""
    _received.clear()
    sys.unraisablehook = _raise_elsewhere
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and a shell's background jobs mean it
            signal.signal(number, _raise)


def _raise_elsewhere(unraisable: "sys.UnraisableHookArgs") -> None:
    """Where Python drops exceptions, as in a finalizer, it drops an interruption too: send the signal once more."""
    if isinstance(unraisable.exc_value, Interrupted):
        threading.Timer(0.01, os.kill, (os.getpid(), unraisable.exc_value.number)).start()
    else:
        sys.__unraisablehook__(unraisable)


def ignore_signals() -> None:
    """From here on a signal that asks the process to end changes nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def received() -> Interrupted | None:
    """The last interruption there was, for it may come out as another exception: compiled code makes it one."""
    return _received[-1] if _received else None


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


@functools.cache
def forks_end_with_it() -> None:
    """From here on what this process forks ends with it: by its pool, or by the system if it is killed, on Linux.

    Workers wait for their next task on a pipe that they hold open among themselves: for ever, if nobody ends them.
    """
    if sys.platform == "linux":  # elsewhere workers are spawned, not forked
        os.register_at_fork(after_in_child=_signals_of_a_worker)
        set_death_signal, libc = 1, ctypes.CDLL(None)
        os.register_at_fork(after_in_child=lambda: libc.prctl(set_death_signal, signal.SIGKILL))


def _signals_of_a_worker() -> None:
    """A worker is ended by its pool alone and says nothing of it: Ctrl-C reaches it as well as the one to tell."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Deferred:
    """Remembers the first signal that came; a second one, or any inside `at_once`, raises."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._immediate = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a signal raises where the process is: for long work that changes nothing."""
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again or self._immediate:
            raise Interrupted(number)


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Inside, signals are remembered and not raised; afterwards they do what they did before, unless now ignored."""
    stop = Deferred()
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in earlier.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop._handle)
        yield stop
    finally:
        for number, handler in earlier.items():
            if signal.getsignal(number) == stop._handle:  # not where `ignore_signals` was called
                signal.signal(number, handler)
