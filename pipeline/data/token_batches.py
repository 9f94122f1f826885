"""Batches that hold as many sentences of similar length as fit a number of tokens."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pipeline.data.batches import BatchOrder


class TokenOrder(BatchOrder):
    """The batches of one epoch as lists of row numbers: sentences of similar length, as many as fit `tokens` tokens.

    All sentences are sorted by length, those of equal length in random order, and cut into batches, which are shuffled.
    Every epoch has as many batches, of the same sizes. Each process holds at most `tokens` tokens of a batch, padding
    counted, or one longer sentence.

    Args:
        lengths: [M], tokens of each sentence, the end token included.
        tokens: tokens of a batch on one process.
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        first: sentences to skip, which an interrupted epoch has already seen.
        rank: rank of this process; it takes every `processes`-th sentence of a batch.
        processes: number of processes; a batch of all processes is that many times larger. With another number, an
            interrupted epoch has other batches.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        tokens: int,
        seed: int,
        epoch: int,
        first: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        super().__init__(seed, epoch, rank, processes)
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(len(lengths))
        ordered = shuffled[np.argsort(-lengths[shuffled], kind="stable")]  # the longest first
        ends = batch_ends(lengths[ordered], tokens, processes)
        cut = [ordered[start:end] for start, end in pairwise(ends)]
        batches = [cut[number] for number in rng.permutation(len(cut))]
        self._batches = list[np.ndarray]()
        for batch in batches:
            left = batch[min(first, len(batch)) :]
            first -= len(batch) - len(left)
            # A batch with fewer sentences than processes would leave one process without a sentence.
            if len(left) >= processes:
                self._batches.append(left)
        self._done = len(batches) - len(self._batches)

    @property
    def done(self) -> int:
        """Number of batches that are left out; see `BatchOrder.done`."""
        return self._done

    def sizes(self) -> Iterator[int]:
        """Yield the size of each batch; see `BatchOrder.sizes`."""
        return map(len, self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch[self.rank :: self.processes].tolist()

    def __len__(self) -> int:
        return len(self._batches)


def batch_ends(lengths: np.ndarray, tokens: int, processes: int) -> list[int]:
    """Cut sentences into batches.

    Args:
        lengths: [M], tokens of the sentences, the longest first.
        tokens: largest number of tokens of one process, padding counted; a longer sentence is a batch by itself.
        processes: number of processes, each of which has a sentence of every batch.

    Returns:
        0, and the end of each batch: the number of sentences up to its last one. Where the sentences that are left at
        the end are fewer than the processes, they are joined by some of the batch before, or else belong to no batch.
    """
    count, ends = len(lengths), [0]
    while ends[-1] < count:
        ends.append(min(count, ends[-1] + processes * max(1, tokens // int(lengths[ends[-1]]))))
    missing = processes - (count - ends[-2]) if count else 0
    if missing > 0:
        if len(ends) > 2 and ends[-2] - ends[-3] - missing >= processes:
            ends[-2] -= missing
        else:
            ends.pop()
    return ends
