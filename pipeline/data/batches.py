"""Batches of sentences, in an order that depends on the seed and the epoch alone."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

if TYPE_CHECKING:
    import datasets

RUNS_OF_A_WINDOW = 256  # runs of neighbouring sentences that fill a window
TOGETHER = 16  # batches whose sentences are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Token ids of B sentences, padded at the end to N positions.

    Args:
        source: [B, N], int64, `x_1 … x_{n-1} [SEP]`: encoder input and decoder target.
        target_input: [B, N], int64, `[CLS] x_1 … x_{n-1}`: decoder input.
        key_padding_mask: [B, N], bool, True at padding, for both.
    """

    source: Tensor
    target_input: Tensor
    key_padding_mask: Tensor

    @property
    def tokens(self) -> int:
        """Number of target tokens, padding left out."""
        return int((~self.key_padding_mask).sum())

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def pin_memory(self) -> "Batch":
        """Copy the batch to page-locked memory, from which a GPU copies while it computes."""
        return Batch(*(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.source, self.target_input, self.key_padding_mask


def collate(sentences: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Pad sentences of token ids, each `[CLS] x_1 … x_{n-1} [SEP]`, to a batch."""
    width = max(len(ids) for ids in sentences) - 1
    source = np.full((len(sentences), width), pad_id, dtype=np.int64)
    target_input = source.copy()
    mask = np.ones(source.shape, dtype=bool)
    for row, ids in enumerate(sentences):
        source[row, : len(ids) - 1] = ids[1:]
        target_input[row, : len(ids) - 1] = ids[:-1]
        mask[row, : len(ids) - 1] = False
    return Batch(torch.from_numpy(source), torch.from_numpy(target_input), torch.from_numpy(mask))


class BatchOrder(Sampler[list[int]]):
    """The batches of one epoch as lists of row numbers, for one of several processes.

    Args:
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        rank: rank of this process; it takes every `processes`-th sentence of a batch.
        processes: number of processes, which share each batch.
    """

    def __init__(self, seed: int, epoch: int, rank: int, processes: int) -> None:
        self.seed, self.epoch, self.rank, self.processes = seed, epoch, rank, processes

    @property
    @abstractmethod
    def done(self) -> int:
        """Number of the epoch's batches that are left out, because an interrupted epoch has already seen them."""

    @abstractmethod
    def sizes(self) -> Iterator[int]:
        """Yield the number of sentences of each batch, of all processes together."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches, without those that are left out."""


class EpochOrder(BatchOrder):
    """The batches of one epoch as lists of row numbers, shuffled without regard to length.

    Batches of similar lengths would hold less padding, but each would teach one length alone: with them models from
    scratch need about twice as many steps until the decoder attends to the encoder's vectors in order. Pretrained
    models have no such phase: `lengths` groups sentences for them.

    Up to `window` sentences are shuffled together. More sentences are cut into runs of neighbours; the runs are
    shuffled, and the sentences of as many runs as fill a window are shuffled together. Memory holds the row numbers of
    one window, and the disk is read in few places.

    Args:
        count: number of sentences.
        batch_size: sentences of a batch on one process.
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        first: sentences to skip, which an interrupted epoch has already seen.
        rank: rank of this process; it takes every `processes`-th sentence of a batch.
        processes: number of processes; a batch of all processes is that many times larger.
        window: maximal number of sentences that are shuffled together; None shuffles all of them.
        lengths: returns the lengths of sentences by their row numbers. `TOGETHER` batches are sorted by length, and
            shuffled; None does not group sentences.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        epoch: int,
        first: int = 0,
        rank: int = 0,
        processes: int = 1,
        window: int | None = None,
        lengths: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        super().__init__(seed, epoch, rank, processes)
        self.lengths = lengths
        self.count, self.first, self.size = count, first, batch_size * processes
        self.window = count if window is None else window

    def __iter__(self) -> Iterator[list[int]]:
        waiting = np.empty(0, dtype=np.int64)
        for numbers in self._windows():
            waiting = np.concatenate([waiting, numbers]) if len(waiting) else numbers
            whole = len(waiting) // self.size * self.size
            for start in range(0, whole, self.size):
                yield waiting[start + self.rank : start + self.size : self.processes].tolist()
            waiting = waiting[whole:]
        # A last batch with fewer sentences than processes would leave one process without a sentence.
        if len(waiting) >= self.processes:
            yield waiting[self.rank :: self.processes].tolist()

    @property
    def done(self) -> int:
        """Number of batches that are left out; see `BatchOrder.done`."""
        return self.first // self.size

    def sizes(self) -> Iterator[int]:
        """Yield equal sizes, and that of a smaller last batch; see `BatchOrder.sizes`."""
        whole, rest = divmod(max(0, self.count - self.first), self.size)
        return chain(repeat(self.size, whole), repeat(rest, rest >= self.processes))

    def __len__(self) -> int:
        whole, rest = divmod(max(0, self.count - self.first), self.size)
        return whole + (rest >= self.processes)

    def _windows(self) -> Iterator[np.ndarray]:
        """Yield the shuffled row numbers of each window, without the first ones of the epoch."""
        if self.count <= self.window:
            rng = np.random.default_rng([self.seed, self.epoch])
            yield self._grouped(rng.permutation(self.count), rng)[self.first :]
            return
        length = max(1, self.window // RUNS_OF_A_WINDOW)
        runs = np.random.default_rng([self.seed, self.epoch]).permutation(-(-self.count // length))
        left_out = self.first
        for number, start in enumerate(range(0, len(runs), RUNS_OF_A_WINDOW)):
            spans = [(run * length, min(run * length + length, self.count)) for run in runs[start:][:RUNS_OF_A_WINDOW]]
            size = sum(stop - begin for begin, stop in spans)
            if left_out < size:
                numbers = np.concatenate([np.arange(*span) for span in spans])
                rng = np.random.default_rng([self.seed, self.epoch, 1 + number])
                rng.shuffle(numbers)
                yield self._grouped(numbers, rng)[left_out:]
            left_out = max(0, left_out - size)

    def _grouped(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Put sentences of similar lengths into one batch, if `lengths` is given; the batches are in random order."""
        whole = len(numbers) // self.size * self.size
        if self.lengths is None or not whole:
            return numbers
        batches = []
        for start in range(0, whole, TOGETHER * self.size):
            some = numbers[start : min(start + TOGETHER * self.size, whole)]
            batches.append(some[np.argsort(self.lengths(some), kind="stable")].reshape(-1, self.size))
        return np.concatenate([rng.permutation(np.concatenate(batches)).ravel(), numbers[whole:]])


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """Return the batches of `count` sentences as lists of row numbers, in order, for evaluation."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def loader(
    sentences: "datasets.Dataset",
    batches: Sampler[list[int]] | list[list[int]],
    pad_id: int,
    device: torch.device,
    workers: int = -1,
    arranged: Callable[[int, list[int]], list[int]] | None = None,
) -> DataLoader[list[int]]:
    """Create a loader of `Batch`es; for a GPU it reads ahead into page-locked memory.

    Args:
        sentences: prepared split.
        batches: row numbers of each batch.
        pad_id: id of the padding token.
        device: device of the batches.
        workers: processes that read ahead; -1 means two for a GPU and none otherwise.
        arranged: changes the order of a sentence's token ids, given the number of its row; None leaves it.
    """
    on_gpu = device.type == "cuda"
    if workers < 0:
        workers = 2 if on_gpu else 0
    return DataLoader(
        _Rows(sentences, arranged),
        batch_sampler=batches,
        collate_fn=lambda ids: collate(ids, pad_id),
        pin_memory=on_gpu,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )


class _Rows(Dataset[list[int]]):
    """Token ids of a prepared split, read one batch of rows at a time."""

    def __init__(
        self, split: "datasets.Dataset", arranged: Callable[[int, list[int]], list[int]] | None = None
    ) -> None:
        self.split, self.arranged = split, arranged

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, rows: list[int]) -> list[list[int]]:
        found = self.split[rows]["input_ids"]
        if self.arranged is None:
            return found
        return [self.arranged(row, ids) for row, ids in zip(rows, found, strict=True)]


def groups_of(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield `size` batches at a time; the last group may have fewer."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group
