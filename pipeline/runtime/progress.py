"""Progress bars that suit a terminal and a log file alike."""

import sys
from typing import Any

from tqdm import tqdm

from pipeline.runtime.processes import is_first


def bar(*args: Any, **kwargs: Any) -> tqdm:
    """A tqdm bar of the first process; where stderr is a file it says how far things are only now and then.

    One step alone has none.
    """
    steps = kwargs["total"] if "total" in kwargs else len(args[0])
    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else 30.0
    return tqdm(*args, dynamic_ncols=terminal, mininterval=interval, disable=steps == 1 or not is_first(), **kwargs)
