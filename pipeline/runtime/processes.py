"""The processes that were launched together: who has which part of the work, and all results in their order again."""

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

Part = TypeVar("Part")


def rank() -> int:
    """The number of this process, from 0: of several the first alone writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes torchrun or accelerate launch started together; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    return rank() == 0


def share(parts: Sequence[Part], evenly: bool = False) -> list[Part]:
    """This process's part of the work: each `size()`-th, from its own number on.

    Args:
        parts: of all processes.
        evenly: whether every process has as many, since they compute together: the last part is then repeated, and
            the results are the first `len(parts)` of those `gathered`.
    """
    if evenly:
        missing = -len(parts) % size()
        parts = [*parts, *[parts[-1]] * missing]
    return list(parts[rank() :: size()])


def gathered(own: Sequence[Any]) -> list[Any]:
    """The results of all processes, in the order of the parts that `share` gave them.

    Args:
        own: a result for each of this process's parts, as JSON has them; numbers come back as they were.
    """
    if size() == 1:
        return list(own)
    import numpy as np
    import torch
    from accelerate.utils import gather

    from pipeline.runtime.devices import processes

    device = processes().device
    text = np.frombuffer(json.dumps(own).encode(), dtype=np.uint8)  # nothing that is received can run
    lengths = gather(torch.tensor([len(text)], device=device)).tolist()
    padded = np.zeros((1, max(lengths)), dtype=np.uint8)
    padded[0, : len(text)] = text
    rows = gather(torch.from_numpy(padded).to(device)).cpu().numpy()
    results = [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]
    return [results[n % size()][n // size()] for n in range(sum(map(len, results)))]


def peer_lost(error: BaseException) -> bool:
    """Whether an error says that another of several processes is no longer there."""
    told = isinstance(error, RuntimeError) and re.search(r"gloo|nccl|peer|connection", str(error), re.IGNORECASE)
    return size() > 1 and bool(told)


def leave() -> None:
    """Part from the others, if this process was among them."""
    if size() > 1 and "torch" in sys.modules:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
