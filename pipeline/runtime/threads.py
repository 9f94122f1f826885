"""Threads of many small computations on a CPU.

PyTorch divides an operation among its threads and waits for the last of them. If another process occupies a core, the
operation waits until the scheduler returns to the thread there, for milliseconds in place of microseconds.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def calls_on_one_thread_each(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map` whose calls run on one PyTorch thread each, so that results do not depend on the number of threads.

    Args:
        workers: calls at the same time. With more than one, the function must be safe to call from several threads and
            set the gradient mode itself, which belongs to a thread; all items are read before the first result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # also for threads that start from here on
    try:
        if workers == 1:
            yield map
            return
        pool = ThreadPoolExecutor(workers)
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(before)
