"""Signals that ask a process to end become an exception, raised at once or deferred to a safe point."""

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
_received: list["Interrupted"] = []
_left_out: list[str] = []  # flags without which the command continues


def continues() -> str:
    """Return which command continues after this process has ended."""
    return f"the same command {''.join(f'without {flag} ' for flag in _left_out)}continues"


def continue_without(flag: str) -> None:
    """Record a flag that has removed what this process then saves anew: the same command would remove that, too."""
    if flag not in _left_out:
        _left_out.append(flag)


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        number: the signal's number.
        state: what is saved and how to resume, for the user; None if nothing is to be said of it.
    """

    def __init__(self, number: int, state: str | None = None) -> None:
        super().__init__(f"interrupted; {continues()}" if state is None else state)
        self.number = number
        _received.append(self)

    @property
    def status(self) -> int:
        """Exit status that a shell reports for a process ended by this signal."""
        return 128 + self.number


def raise_on_signals() -> None:
    """Install handlers that raise `Interrupted` in the main thread at once."""
    _received.clear()
    _left_out.clear()
    sys.unraisablehook = _raise_elsewhere
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs of a shell ignore it on purpose
            signal.signal(number, _raise)


def _raise_elsewhere(unraisable: "sys.UnraisableHookArgs") -> None:
    """Send the signal again if Python dropped its exception, as it does inside finalizers."""
    if isinstance(unraisable.exc_value, Interrupted):
        threading.Timer(0.01, os.kill, (os.getpid(), unraisable.exc_value.number)).start()
    else:
        sys.__unraisablehook__(unraisable)


def ignore_signals() -> None:
    """Ignore the signals from here on: the process is about to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def received() -> Interrupted | None:
    """Return the last interruption, or None.

    Compiled code may turn an interruption into another exception, so that its type alone does not show it.
    """
    return _received[-1] if _received else None


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


@functools.cache
def end_forks_with_parent() -> None:
    """Make forks of this process end with it, also when it is killed (Linux).

    Pool workers wait for tasks on a pipe that they hold open among themselves, so that they would wait forever.
    """
    if sys.platform == "linux":  # elsewhere workers are spawned, not forked
        os.register_at_fork(after_in_child=_reset_worker_signals)
        set_death_signal, libc = 1, ctypes.CDLL(None)
        os.register_at_fork(after_in_child=lambda: libc.prctl(set_death_signal, signal.SIGKILL))


def _reset_worker_signals() -> None:
    """Let the pool alone end a worker: Ctrl-C reaches workers too, and they would print tracebacks."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Deferred:
    """Record the first signal. A second signal, or any signal inside `at_once`, raises `Interrupted`."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._immediate = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise on the first signal inside the context: for long work that changes nothing."""
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
    """Record signals inside the context, then restore the earlier handlers unless signals are ignored by then."""
    stop = Deferred()
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in earlier.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop._handle)
        yield stop
    finally:
        for number, handler in earlier.items():
            if signal.getsignal(number) == stop._handle:  # not after `ignore_signals`
                signal.signal(number, handler)
