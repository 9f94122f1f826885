"""The batches of an epoch of training, by the settings."""

import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.batches import BatchOrder, EpochOrder
from pipeline.data.dataset import lengths_of
from pipeline.data.token_batches import TokenOrder
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.errors import UserError

if TYPE_CHECKING:
    import datasets


class EpochOrders:
    """Orders of the epochs of a run.

    Args:
        settings: training settings.
        split: training sentences.
        rank: rank of this process.
        processes: number of processes.

    Raises:
        UserError: batches by tokens need a larger window.
    """

    def __init__(
        self, settings: TrainingSettings, split: "datasets.Dataset", rank: int = 0, processes: int = 1
    ) -> None:
        if settings.batch_tokens is not None and len(split) > settings.shuffle_window:
            raise UserError(
                f"--BATCH_TOKENS sorts all {len(split):,} training sentences together, and --SHUFFLE_WINDOW is "
                f"{settings.shuffle_window:,}; raise it to as many, some 40 bytes of memory each, or take --BATCH_SIZE"
            )
        self.settings, self.split = settings, split
        self.rank, self.processes = rank, processes
        self._lengths: np.ndarray | None = None

    def of(self, epoch: int, first: int = 0) -> BatchOrder:
        """Return the batches of an epoch.

        Args:
            epoch: number of the epoch, from 0.
            first: sentences to skip, which an interrupted epoch has already seen.
        """
        settings, where = self.settings, (self.rank, self.processes)
        if settings.batch_tokens is not None:
            if self._lengths is None:
                self._lengths = lengths_of(self.split)(np.arange(len(self.split)))
            return TokenOrder(self._lengths, settings.batch_tokens, settings.seed, epoch, first, *where)
        lengths = lengths_of(self.split) if settings.group_by_length else None
        window = settings.shuffle_window
        return EpochOrder(len(self.split), settings.batch_size, settings.seed, epoch, first, *where, window, lengths)

    def steps(self) -> int:
        """Return the optimizer steps of a whole epoch, the same for each."""
        return math.ceil(len(self.of(0)) / self.settings.accumulation_steps)
