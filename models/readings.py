"""Names of the readings: what a decoder of NVIB attends to in evaluation. Imports nothing heavy."""

import re

INTEGRATING = ("integral", "no-prior")  # readings of a mixture with its variances
MEASURES = (*INTEGRATING, "plug-in")  # readings of the mean measure; the others draw from the posterior
DEFAULT_DRAWS, MOST_DRAWS = 8, 1000
KNOWN = f"{', '.join(MEASURES)} or draws-K with K from 1 to {MOST_DRAWS}"


def canonical(reading: object) -> str | None:
    """Return the name under which a reading is stored, or None if there is no such reading.

    Args:
        reading: one of `MEASURES`, or `draws-K`. `draws K` is the same, and `draws` has `DEFAULT_DRAWS` draws.
    """
    if not isinstance(reading, str) or reading in MEASURES:
        return reading if isinstance(reading, str) else None
    found = re.fullmatch(r"draws(?:[- ]([1-9][0-9]{0,3}))?", reading)
    count = int(found[1] or DEFAULT_DRAWS) if found else 0
    return f"draws-{count}" if 1 <= count <= MOST_DRAWS else None


def draws_of(reading: str) -> int:
    """Return the number of posterior samples of a canonical reading; 0 if it reads the mean measure."""
    return 0 if reading in MEASURES else int(reading.rpartition("-")[2])
