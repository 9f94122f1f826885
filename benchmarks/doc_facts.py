"""Sizes, formats and facts behind the tables of docs/scaling.md: models, corpora, and figures of the measurements."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks import costs
from benchmarks.costs import Model

SENTENCES = 1e9
LENGTH = 24.9  # tokens per sentence of WikiText-2 with BERT's vocabulary, end token included
TOKENS = SENTENCES * LENGTH
# The scripts' default sizes, and larger ones.
MODELS = {
    "default": Model(),
    "small vocabulary": Model(vocabulary=8000),
    "multilingual": Model(vocabulary=120_000),
    "6 × 512": Model(width=512, layers=6, heads=8),
    "12 × 1024": Model(width=1024, layers=12, heads=16),
}
BATCHES = (64, 1024)  # sentences per batch of a GPU


@dataclass(frozen=True)
class Corpus:
    """Sizes of a corpus on the hub, from its dataset card.

    Args:
        documents: rows of the training split.
        training: bytes of the training split.
        whole: bytes of all splits.
        download: bytes of the download.
        share: share of the training split to train on. The rest becomes the validation split.
    """

    documents: int
    training: float
    whole: float
    download: float
    share: float = 1.0


CORPORA = {
    "wikitext103": Corpus(1_801_350, 545_141_915, 547_592_241, 313_093_838),
    "yelp": Corpus(650_000, 483_811_554, 521_082_742, 322_952_369, share=0.95),
    "yahoo": Corpus(1_400_000, 760_460_695, 793_122_057, 319_476_345, share=0.95),
}


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a Markdown table. Every column but the first is right-aligned."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def over_seeds(values: Iterable[float | None], digits: int) -> str:
    """Format the mean over seeds, ± the standard deviation where there are several; a dash without values."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{spread}"


def rounded(value: float, digits: int = 3) -> str:
    """Format a number with `digits` significant digits and thousands separators."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if abs(value) >= 10 ** (digits - 1) else text


def bytes_(value: float) -> str:
    """Format bytes in the largest fitting unit."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{rounded(value / factor)} {unit}"
    return f"{rounded(value)} B"


def duration(seconds: float) -> str:
    """Format a duration in the largest fitting unit."""
    for unit, factor in (("years", 365.25 * 86400), ("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * factor:
            return f"{rounded(seconds / factor)} {unit}"
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{rounded(seconds / factor)} {unit}"
    return f"{rounded(seconds / 1e-6)} µs"


def of_model(results: dict[str, Any], varied: str, value: int) -> dict[str, Any]:
    """Return the measured step with this value of a varied size."""
    return next(row for row in results["model"]["rows"] if row["varied"] == varied and row[varied] == value)


def cpu_speed(results: dict[str, Any]) -> float:
    """Return tokens per second of a training step at the default sizes, on the machine of the measurement."""
    row = of_model(results, "vocabulary", Model().vocabulary)
    return row["sentences"] * row["length"] / row["seconds"]


def preparation(results: dict[str, Any], x: str, y: str) -> tuple[float, float]:
    """Fit a line to the preparations: `y` at zero `x`, and the increase of `y` per unit of `x`."""
    rows = results["corpus"]["rows"]
    return costs.line([row[x] for row in rows], [row[y] for row in rows])


def sentence_bytes(results: dict[str, Any]) -> float:
    """Return the bytes on disk of a prepared sentence."""
    return preparation(results, "sentences", "disk_bytes")[1]


def text_bytes(results: dict[str, Any]) -> float:
    """Return the bytes of text behind a prepared sentence."""
    return preparation(results, "sentences", "training_bytes")[1]


def operations(results: dict[str, Any], layers: int) -> float:
    """Return the operations that the host starts for a step with `layers` layers, extrapolated from a few layers."""
    rows = [row for row in results["model"]["rows"] if row["varied"] == "layers"]
    start, more = costs.line([row["layers"] for row in rows], [row["operations"] for row in rows])
    return start + more * layers
