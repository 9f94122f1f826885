"""The checkout that this code belongs to: its root folder and its commit."""

import subprocess
from pathlib import Path

MARKER = "pyproject.toml"


def find_root(start: Path) -> Path:
    """Find the project's root: the nearest folder at or above `start` that holds `pyproject.toml`.

    Raises:
        RuntimeError: no such folder exists.
    """
    for folder in (start, *start.parents):
        if (folder / MARKER).is_file():
            return folder
    raise RuntimeError(f"no {MARKER} at or above {start}; run the scripts in a checkout of the project")


ROOT = find_root(Path(__file__).resolve().parent)


def commit() -> str:
    """Return the commit that is checked out, with `+changes` if files differ from it.

    Returns:
        40 hexadecimal digits, or `unknown` outside a git checkout.
    """
    if not (ROOT / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
