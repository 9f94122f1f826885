"""The processes of a distributed run: each takes its share of the work, and `gathered` restores the order."""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

Part = TypeVar("Part")


def rank() -> int:
    """Return this process's rank, from 0. Only rank 0 writes files and logs."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """Return the number of processes that torchrun or accelerate launch started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return True on rank 0, and in a process without a launcher."""
    return rank() == 0


def share(parts: Sequence[Part], evenly: bool = False) -> list[Part]:
    """Return this process's parts of the work: every `size()`-th part, from its rank on.

    Args:
        parts: parts of all processes.
        evenly: give every process the same number of parts, for processes that compute together. The last part is
            repeated, and the results are the first `len(parts)` of those `gathered`.
    """
    if evenly:
        missing = -len(parts) % size()
        parts = [*parts, *[parts[-1]] * missing]
    return list(parts[rank() :: size()])


def gathered(own: Sequence[Any]) -> list[Any]:
    """Gather the results of all processes, in the order of the parts before `share`.

    Args:
        own: one JSON-serialisable result for each of this process's parts. Numbers keep every bit.
    """
    if size() == 1:
        return list(own)
    # Heavy, and needed by launched processes alone: a command line is parsed without torch.
    import numpy as np
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather

    device = PartialState(cpu=not torch.cuda.is_available()).device
    text = np.frombuffer(json.dumps(own).encode(), dtype=np.uint8)  # JSON: received data cannot run code
    gather_tensor = cast("Callable[[torch.Tensor], torch.Tensor]", gather)  # it is annotated for nested values
    lengths = gather_tensor(torch.tensor([len(text)], device=device)).tolist()
    padded = np.zeros((1, max(lengths)), dtype=np.uint8)
    padded[0, : len(text)] = text
    rows = gather_tensor(torch.from_numpy(padded).to(device)).cpu().numpy()
    results = [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]
    return [results[n % size()][n // size()] for n in range(sum(map(len, results)))]


def peer_lost(error: BaseException) -> bool:
    """Return True if an error of torch.distributed reports that another process has ended."""
    reported = isinstance(error, RuntimeError) and re.search(r"gloo|nccl|peer|connection", str(error), re.IGNORECASE)
    return size() > 1 and bool(reported)


def leave() -> None:
    """Leave the process group, if this process is in one."""
    if size() > 1 and "torch" in sys.modules:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
