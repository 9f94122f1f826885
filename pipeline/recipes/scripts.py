"""Scripts that are run one after the other, as a user would type them."""

import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline.runtime.checkout import ROOT


def run_in_order(commands: Sequence[Sequence[str]]) -> float:
    """Run scripts with their arguments, each told of first; one that fails ends this process with its status.

    Returns:
        The minutes that all of them took.
    """
    started = time.monotonic()
    for number, (script, *arguments) in enumerate(commands, start=1):
        print(f"\n[{number}/{len(commands)}] python {' '.join((script, *arguments))}", flush=True)
        finished = subprocess.run([sys.executable, str(ROOT / script), *arguments], check=False)
        if finished.returncode:
            sys.exit(finished.returncode)
    return (time.monotonic() - started) / 60
