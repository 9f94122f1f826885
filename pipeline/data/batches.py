"""Batches of sentences, in an order that seed and epoch alone decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.experiments.training_settings import TrainingSettings

RUNS_OF_A_WINDOW = 256


@dataclass(frozen=True)
class Batch:
    """Sentences padded at their end.

    Args:
        source: [B, N], `x_1 … x_{n-1} [SEP]`: the encoder's input and the decoder's target.
        target_input: [B, N], `[CLS] x_1 … x_{n-1}`: the decoder's input.
        key_padding_mask: [B, N], bool, True at padding, for both.
    """

    source: Tensor
    target_input: Tensor
    key_padding_mask: Tensor

    @property
    def tokens(self) -> int:
        """Real target tokens."""
        return int((~self.key_padding_mask).sum())

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from where a GPU copies while it computes."""
        return Batch(*(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.source, self.target_input, self.key_padding_mask


def collate(sentences: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Pad sentences of ids, each `[CLS] x_1 … x_{n-1} [SEP]`, to a batch."""
    width = max(len(ids) for ids in sentences) - 1
    source = np.full((len(sentences), width), pad_id, dtype=np.int64)
    target_input = source.copy()
    mask = np.ones(source.shape, dtype=bool)
    for row, ids in enumerate(sentences):
        source[row, : len(ids) - 1] = ids[1:]
        target_input[row, : len(ids) - 1] = ids[:-1]
        mask[row, : len(ids) - 1] = False
    return Batch(torch.from_numpy(source), torch.from_numpy(target_input), torch.from_numpy(mask))


class EpochOrder(Sampler[list[int]]):
    """The batches of one epoch, as lists of sentence numbers: shuffled, cut, and nothing else.

    Batches of similar lengths would hold less padding, but each would teach one length alone: with them the
    models need about twice as many steps until the decoder attends to the encoder's vectors in order.

    All sentences are shuffled together where `window` of them are no fewer. Of more, runs of neighbours are drawn, as
    many as fill a window, and shuffled together: memory holds a window's index, and the disk is read in few places.

    Args:
        count: sentences.
        batch_size: sentences of a batch, of one process.
        seed: of the run.
        epoch: from 0.
        first: sentences to leave out, which an interrupted epoch has already seen.
        rank: number of this process; it takes each `processes`-th sentence of every batch.
        processes: how many train together, on batches as many times as large.
        window: sentences that are shuffled together, at most.
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
        window: int = TrainingSettings.shuffle_window,
    ) -> None:
        self.count, self.seed, self.epoch, self.first, self.window = count, seed, epoch, first, window
        self.rank, self.processes, self.size = rank, processes, batch_size * processes

    def __iter__(self) -> Iterator[list[int]]:
        waiting = np.empty(0, dtype=np.int64)
        for numbers in self._windows():
            waiting = np.concatenate([waiting, numbers]) if len(waiting) else numbers
            whole = len(waiting) // self.size * self.size
            for start in range(0, whole, self.size):
                yield waiting[start + self.rank : start + self.size : self.processes].tolist()
            waiting = waiting[whole:]
        # A last batch with fewer sentences than processes would leave one of them with nothing to do.
        if len(waiting) >= self.processes:
            yield waiting[self.rank :: self.processes].tolist()

    def __len__(self) -> int:
        whole, rest = divmod(max(0, self.count - self.first), self.size)
        return whole + (rest >= self.processes)

    def _windows(self) -> Iterator[np.ndarray]:
        """The sentences of each window in their order, but the first ones of the epoch."""
        if self.count <= self.window:
            yield np.random.default_rng([self.seed, self.epoch]).permutation(self.count)[self.first :]
            return
        length = max(1, self.window // RUNS_OF_A_WINDOW)
        runs = np.random.default_rng([self.seed, self.epoch]).permutation(-(-self.count // length))
        left_out = self.first
        for number, start in enumerate(range(0, len(runs), RUNS_OF_A_WINDOW)):
            spans = [(run * length, min(run * length + length, self.count)) for run in runs[start:][:RUNS_OF_A_WINDOW]]
            size = sum(stop - begin for begin, stop in spans)
            if left_out < size:
                numbers = np.concatenate([np.arange(*span) for span in spans])
                np.random.default_rng([self.seed, self.epoch, 1 + number]).shuffle(numbers)
                yield numbers[left_out:]
            left_out = max(0, left_out - size)


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """The batches of `count` sentences as they stand, for evaluation."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def loader(
    sentences: Dataset,
    batches: Sampler[list[int]] | list[list[int]],
    pad_id: int,
    device: torch.device,
    workers: int = -1,
):
    """A loader of `Batch`es; beside a GPU it reads ahead into page-locked memory.

    Args:
        sentences: of a prepared split.
        batches: row numbers of each.
        pad_id: of the padding token.
        device: where the batches go.
        workers: processes that read ahead, -1 for two beside a GPU and none otherwise.
    """
    on_gpu = device.type == "cuda"
    if workers < 0:
        workers = 2 if on_gpu else 0
    return DataLoader(
        _Rows(sentences),
        batch_sampler=batches,
        collate_fn=lambda ids: collate(ids, pad_id),
        pin_memory=on_gpu,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )


class _Rows(Dataset):
    """Token ids of a prepared split, a batch of rows at a time."""

    def __init__(self, split: Dataset) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, rows: list[int]) -> list[list[int]]:
        return self.split[rows]["input_ids"]
