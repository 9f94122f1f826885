"""Progress bars for terminals and log files."""

import sys
from typing import Any

from tqdm import tqdm

from pipeline.runtime.processes import is_first


def bar(*args: Any, **kwargs: Any) -> "tqdm[Any]":
    """Return a tqdm bar that rank 0 alone shows, refreshed every 30 s if stderr is a file.

    A bar of one step is not shown. Arguments are those of `tqdm`.
    """
    steps = kwargs["total"] if "total" in kwargs else len(args[0])
    terminal = sys.stderr.isatty()
    interval = 0.2 if terminal else 30.0
    return tqdm(*args, dynamic_ncols=terminal, mininterval=interval, disable=steps == 1 or not is_first(), **kwargs)
