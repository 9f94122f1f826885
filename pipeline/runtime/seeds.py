"""Seeds derived from the run's seed and their use."""

import numpy as np


def mixed(*numbers: int) -> int:
    """Combine several numbers to one seed in [0, 2^63)."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
