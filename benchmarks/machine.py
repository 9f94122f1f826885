"""The machine of a benchmark."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name as the system reports it."""
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        return next(row.split(":")[1].strip() for row in rows if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
