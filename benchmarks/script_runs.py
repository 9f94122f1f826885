"""Scripts of the project, run as processes by benchmarks."""

import subprocess
import sys
from pathlib import Path

from pipeline.runtime.errors import UserError

ROOT = Path(__file__).parent.parent


def run_script(name: str, *flags: object) -> None:
    """Run a script of the project with flags.

    Raises:
        UserError: it fails.
    """
    finished = subprocess.run([sys.executable, str(ROOT / name), *map(str, flags)], check=False)
    if finished.returncode:
        raise UserError(f"{name} ended with status {finished.returncode}")
