"""Schedules of the regulariser's weight during training (Fu et al. 2019)."""

import math

SCHEDULES = ("constant", "monotonic", "cyclic")
CYCLES = 4


def anneal(schedule: str, progress: float, warmup: float = 0.0) -> float:
    """Compute the factor of the regulariser's weight, in [0, 1].

    Args:
        schedule: `constant` (1), `monotonic` (a half cosine from 0 to 1 over the first quarter of training, then 1) or
            `cyclic` (4 cycles, each a half cosine from 0 to 1 over its first half, then 1).
        progress: completed share of training, in [0, 1]; at 1 the factor of every schedule is 1.
        warmup: share of training, in [0, 1), before the schedule starts. Until then the factor is 0; the schedule then
            spans the rest of training.

    Raises:
        ValueError: the schedule is unknown.
    """
    if progress < warmup:
        return 0.0
    progress = (progress - warmup) / (1.0 - warmup)
    if schedule == "constant" or progress >= 1.0:
        return 1.0
    if schedule == "monotonic":
        return _half_cosine(progress * 4)
    if schedule == "cyclic":
        return _half_cosine(2 * (progress * CYCLES % 1.0))
    raise ValueError(f"the schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")


def _half_cosine(position: float) -> float:
    """Rise from 0 at position 0 to 1 at position 1, and stay at 1."""
    return 0.5 * (1.0 - math.cos(math.pi * min(position, 1.0)))
