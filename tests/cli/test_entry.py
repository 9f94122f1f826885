"""How a script ends: an error that the user can remedy becomes one line, any other one stays a traceback."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from pipeline.cli import entry


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `entry.run` end a script of this name, and restore what it changes in the process."""
    monkeypatch.setattr(sys, "argv", ["script.py"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def write(number: int) -> None:
    """Fail as a write does."""
    raise OSError(number, os.strerror(number), "rows.arrow")


def write_and_close(number: int) -> None:
    """Fail as a write does, and once more while that error is handled."""
    try:
        write(number)
    except OSError:
        raise ValueError("I/O operation on closed file")  # noqa: B904 (as a library does)


@pytest.mark.parametrize("fail", [write, write_and_close])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_also_if_a_library_fails_to_close_its_file(
    fail: Callable[[int], None], number: int, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        entry.run(lambda: fail(number))
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"script.py: error: rows.arrow cannot be written ({os.strerror(number)}): make room; "
        "the same command continues\n"
    )


def test_another_exception_than_that_of_a_forbidden_write_stays_a_traceback():
    with pytest.raises(ValueError, match="closed file"):
        entry.run(lambda: write_and_close(errno.EACCES))


def test_the_line_and_its_end_are_one_write(monkeypatch: pytest.MonkeyPatch):
    """Python writes to stderr at once, so with two writes another process can write between them."""
    writes: list[str] = []

    class Recorder(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Recorder())
    with pytest.raises(SystemExit):
        entry.run(lambda: write(errno.ENOSPC))
    assert len(writes) == 1
    assert writes[0].endswith("\n")
