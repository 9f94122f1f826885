"""The checkpoints that a run keeps: its latest state, to continue from, and its best weights, for all other scripts."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch

from models.text_model import TextModel
from pipeline.checkpoints import (
    load_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    save_checkpoint,
)
from pipeline.errors import UserError
from pipeline.experiments import ExperimentFiles

REMEDY = "train anew with --RESTART True"


@dataclass
class Progress:
    """How far a run is: all that is not a tensor in the latest checkpoint."""

    epoch: int = 0
    sentences: int = 0  # of this epoch that are done, by all processes
    step: int = 0  # optimizer steps of the run that are done
    seconds: float = 0.0  # time this epoch has taken, over all its parts
    best_loss: float = math.inf
    best_epoch: int = -1
    finished: bool = False
    figures: dict[str, float] = field(default_factory=dict)  # sums over this epoch so far
    skipped: int = 0  # optimizer steps of the run that were left out

    def to_json(self) -> dict[str, Any]:
        """As the checkpoint holds it (JSON has no infinity)."""
        return {**dataclasses.asdict(self), "best_loss": None if math.isinf(self.best_loss) else self.best_loss}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """What `to_json` made.

        Raises:
            ValueError: it was another version of this project's.
        """
        try:
            best = values["best_loss"]
            return cls(**{**values, "best_loss": math.inf if best is None else best})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


class WholeCheckpoints:
    """Checkpoints of a model that every process has whole: the first process writes a file each.

    Args:
        files: the experiment's.
        model: whose weights are kept and restored.
        optimizer: whose moments are.
        writes: whether this process writes; of several, which all call the methods, one does.
    """

    def __init__(
        self, files: ExperimentFiles, model: TextModel, optimizer: torch.optim.Optimizer, writes: bool
    ) -> None:
        self.files = files
        self.model = model
        self.optimizer = optimizer
        self.writes = writes

    def save_latest(self, progress: Progress) -> None:
        """Keep weights, the optimizer's state and progress, whole or not at all."""
        if not self.writes:
            return
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        moments = optimizer_tensors(self.model, self.optimizer)
        tensors |= {f"optimizer/{name}": t for name, t in moments.items()}
        save_checkpoint(self.files.latest, tensors, progress.to_json())

    def save_best(self, state: dict[str, Any]) -> None:
        """Keep the weights, in one file, with what is to be known of them."""
        if self.writes:
            save_checkpoint(self.files.best, self.model.state_dict(), state)

    def restore(self) -> Progress | None:
        """Put the latest state back into model and optimizer; None where there is none.

        Raises:
            UserError: it is damaged or does not fit.
        """
        if not self.files.latest.exists():
            return None
        tensors, state = load_checkpoint(self.files.latest, REMEDY)
        weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        moments = {name.removeprefix("optimizer/"): t for name, t in tensors.items() if name.startswith("optimizer/")}
        load_weights(self.model, weights, self.files.latest)
        load_optimizer(self.model, self.optimizer, moments)
        try:
            return Progress.from_json(state)
        except ValueError as error:
            raise UserError(f"{self.files.latest} is of another version of this project ({error}); {REMEDY}") from None

    def best_state(self) -> dict[str, Any]:
        """What `save_best` was told of the best weights.

        Raises:
            UserError: the file is absent or damaged.
        """
        return load_checkpoint(self.files.best, REMEDY)[1]
