"""Documents with their splits and labels, and the division of text that has no splits of its own."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pipeline.runtime.errors import UserError

Item = TypeVar("Item")
LabelledText = tuple[str, str | None]  # the label is None where the text has none

SPLITS = ("train", "validation", "test")
DIVIDED_TOGETHER = 1000  # documents


@dataclass(frozen=True)
class Split:
    """Division of text that has no splits of its own.

    Args:
        validation: fraction of the documents for validation.
        test: fraction of the documents for testing.
        seed: seed of the division.
    """

    validation: float
    test: float
    seed: int


class Document(NamedTuple):
    """A document.

    Args:
        part: index of its split in `SPLITS`.
        text: its text.
        label: its label, or None.
    """

    part: int
    text: str
    label: str | None = None


def divided(texts: Iterable[LabelledText], split: Split, source: str) -> Iterator[Document]:
    """Divide texts without splits into documents of the three splits; see `divide`."""
    return (Document(part, text, label) for part, (text, label) in divide(texts, split, source))


def divide(items: Iterable[Item], split: Split, source: str) -> Iterator[tuple[int, Item]]:
    """Divide items into the three splits under a seed, in blocks of `DIVIDED_TOGETHER` with the same fractions.

    Args:
        items: all documents.
        split: fractions and seed.
        source: name of the text, for error messages.

    Returns:
        Each item behind the index of its split, in the order of `items`.

    Raises:
        UserError: a split would be empty.
    """
    import numpy as np  # this module is imported while a command line is parsed

    remaining = iter(items)
    for number in itertools.count():
        block = list(itertools.islice(remaining, DIVIDED_TOGETHER))
        if number and not block:
            return
        test, validation = (round(share * len(block)) for share in (split.test, split.validation))
        if number == 0:  # the first block gives each split at least one document; the later ones need not
            test, validation = (max(n, share > 0) for n, share in ((test, split.test), (validation, split.validation)))
        if number == 0 and test + validation >= len(block):
            raise UserError(
                f"{source} has too few documents with text ({len(block)}) to divide into training, validation and "
                "test; bring more (of a .txt, each line is a document)"
            )
        order = np.random.default_rng([split.seed, number] if number else split.seed).permutation(len(block))
        parts = np.zeros(len(block), dtype=np.int8)
        parts[order[:test]] = SPLITS.index("test")
        parts[order[test : test + validation]] = SPLITS.index("validation")
        yield from zip(parts.tolist(), block, strict=True)
