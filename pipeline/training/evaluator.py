"""Evaluations of a model while it trains: figures of the validation split, and the looks of a controller."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from accelerate import Accelerator

from models.text_model import TextModel
from pipeline.data.batches import Batch, BatchOrder, in_order, loader
from pipeline.data.dataset import PreparedData
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.processes import share
from pipeline.runtime.progress import bar
from pipeline.runtime.seeds import mixed
from pipeline.training.collapse import FEW_GAP_SENTENCES, GAP_SENTENCES, collapse_figures
from pipeline.training.fsdp import outer_gathered
from pipeline.training.validation import evaluate, posterior_histograms

HISTOGRAM_SENTENCES = 1000
CHECK_SENTENCES = 512  # validation sentences that a controller looks at
FEW_SENTENCES = 64  # the same around a pretrained model, where a sentence costs a hundred times as much


class Evaluator:
    """Evaluate a model on the validation split; the model is back in training mode afterwards.

    Args:
        model: model that trains.
        data: prepared data.
        settings: size of the batches, workers of the loaders, and precision around a pretrained model.
        accelerator: device and processes.
        stoppable: yields batches, and ends where a signal asks for it.
    """

    def __init__(
        self,
        model: TextModel,
        data: PreparedData,
        settings: TrainingSettings,
        accelerator: Accelerator,
        stoppable: Callable[[Iterable[Batch]], Iterator[Batch]],
    ) -> None:
        self.model, self.data, self.settings = model, data, settings
        self.accelerator, self._stoppable = accelerator, stoppable

    def evaluate(self) -> dict[str, float]:
        """Return all figures of the validation split, by name."""
        size, device = self.settings.batch_size, self.accelerator.device
        batches = in_order(len(self.data.splits["validation"]), size)
        end_id, wanted = self.data.tokenizer.sep_id, self.settings.precision
        sentences = GAP_SENTENCES if self.model.settings.pretrained is None else FEW_GAP_SENTENCES
        own, compared = share(batches, evenly=self._sharded), math.ceil(sentences / size)
        with outer_gathered(self.model):
            shown = bar(self.loader(own, "validation"), total=len(own), desc="validation", unit="batch", leave=False)
            figures = evaluate(self.model, self._stoppable(shown), device, end_id, len(batches), wanted)
            loaded = self._stoppable(self.loader(own, "validation"))
            figures |= collapse_figures(self.model, loaded, device, compared, len(batches), wanted)
        self.model.train()
        return figures

    def check(self) -> dict[str, float]:
        """Return the means of validation sentences from all over the split, for a controller."""
        number, end_id = len(self.data.splits["validation"]), self.data.tokenizer.sep_id
        looked_at = CHECK_SENTENCES if self.model.settings.pretrained is None else FEW_SENTENCES
        apart = max(1, number // looked_at)
        batches = in_order(min(looked_at, number), self.settings.batch_size)
        batches = [[apart * sentence for sentence in batch] for batch in batches]
        loaded = self.loader(share(batches, evenly=self._sharded), "validation")
        with outer_gathered(self.model):
            figures = evaluate(
                self.model, loaded, self.accelerator.device, end_id, len(batches), self.settings.precision
            )
        self.model.train()
        return figures

    def histograms(self) -> dict[str, Any]:
        """Return histograms of the latent's quantities on some validation sentences."""
        count = min(HISTOGRAM_SENTENCES, len(self.data.splits["validation"]))
        batches = self.loader(in_order(count, self.settings.batch_size), "validation")
        with outer_gathered(self.model):
            return posterior_histograms(self.model, batches, self.accelerator.device)

    def loader(self, batches: Any, split: str) -> Any:
        """Load batches of a split by the numbers of their sentences; the columns of rows come in random order."""
        sentences, tokenizer = self.data.splits[split], self.data.tokenizer
        arranged = None
        if isinstance(tokenizer, RowTokenizer):
            seed, epoch = (batches.seed, batches.epoch) if isinstance(batches, BatchOrder) else (0, 0)
            arranged = partial(_shuffled, tokenizer, seed, epoch)
        workers = self.settings.loader_workers
        return loader(sentences, batches, tokenizer.pad_id, self.accelerator.device, workers, arranged)

    @property
    def _sharded(self) -> bool:
        return self.accelerator.is_fsdp2


def _shuffled(tokenizer: RowTokenizer, seed: int, epoch: int, row: int, ids: list[int]) -> list[int]:
    """Shuffle the columns of a row; the order depends on the seed, the epoch and the row alone."""
    return tokenizer.shuffled(ids, random.Random(mixed(seed, epoch, row)))
