"""Peak memory of a command with all its processes, on Linux."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.05  # seconds between two measurements


@dataclass(frozen=True)
class Watched:
    """Cost of a command.

    Args:
        seconds: duration.
        peak: peak bytes of all its processes. A page that k processes share counts 1/k in each (PSS).
        anonymous: peak bytes of anonymous memory, which no file backs and the system cannot drop.
        output: standard output and error.
    """

    seconds: float
    peak: int
    anonymous: int
    output: str


def held(session: int) -> tuple[int, int]:
    """Return the bytes that the processes of a session hold now: all, and anonymous ones."""
    whole = anonymous = 0
    for folder in Path("/proc").iterdir():
        # A process may end during the measurement.
        with contextlib.suppress(OSError, ProcessLookupError, ValueError):
            if not folder.name.isdigit() or os.getsid(int(folder.name)) != session:
                continue
            for row in (folder / "smaps_rollup").read_text().splitlines():
                name, _, value = row.partition(":")
                if name in ("Pss", "Pss_Anon"):
                    count = 1024 * int(value.split()[0])
                    whole, anonymous = (whole + count, anonymous) if name == "Pss" else (whole, anonymous + count)
    return whole, anonymous


def watch(command: Sequence[str], **options: Any) -> Watched:
    """Run a command in a session of its own and measure its memory until it ends.

    Args:
        command: program and arguments.
        options: options of `subprocess.Popen`.

    Raises:
        CalledProcessError: the command failed. The error holds its output.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )
    peaks, ended = [0, 0], threading.Event()

    def look() -> None:
        while not ended.is_set():
            peaks[:] = map(max, peaks, held(process.pid))
            ended.wait(INTERVAL)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
    except BaseException:
        process.kill()
        raise
    finally:
        ended.set()
        looking.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output)
    return Watched(seconds, peaks[0], peaks[1], output)
