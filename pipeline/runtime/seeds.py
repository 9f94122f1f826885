"""Seeds that follow from the run's and from what they are for."""

import numpy as np


def mixed(*numbers: int) -> int:
    """One seed, in [0, 2^63), out of several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> np.uint64(1))
