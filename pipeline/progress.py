"""Progress bars that suit a terminal and a log file alike."""

import sys
from typing import Any

from tqdm import tqdm


def bar(*args: Any, **kwargs: Any) -> tqdm:
    """A tqdm bar; where stderr is a file it says how far things are only now and then."""
    terminal = sys.stderr.isatty()
    return tqdm(*args, dynamic_ncols=terminal, mininterval=0.2 if terminal else 30.0, **kwargs)
