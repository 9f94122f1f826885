"""A run's checkpoints: the latest state to resume from, and the best weights for every other script."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from models.text_model import TextModel
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import (
    load_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    save_checkpoint,
)
from pipeline.runtime.devices import processes
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import (
    check_files,
    put_back,
    read_record,
    remove_folder,
    replacing_folder,
    write_checksums,
    write_record,
)
from pipeline.runtime.locks import inherit
from pipeline.runtime.processes import gathered
from pipeline.training.fsdp import placed_like
from pipeline.training.fsdp_tensors import names_in, read_shards, write_shards

REMEDY = "train anew with --RESTART True"
# Content of a folder of shards. Accelerate uses the same names for weights and moments.
WEIGHTS, MOMENTS, PROGRESS = "pytorch_model_fsdp_0", "optimizer_0", "progress.json"


@dataclass
class Progress:
    """Progress of a run: every value in the latest checkpoint that is not a tensor."""

    epoch: int = 0
    sentences: int = 0  # of this epoch, consumed by all processes
    step: int = 0  # optimizer steps of the run so far
    seconds: float = 0.0  # duration of this epoch so far, over all its parts
    best_loss: float = math.inf
    best_epoch: int = -1
    finished: bool = False
    cut: bool = False  # a limit ended the last epoch before its last batch
    figures: dict[str, float] = field(default_factory=dict)  # sums over this epoch so far
    skipped: int = 0  # optimizer steps of the run that were skipped
    control: dict[str, Any] = field(default_factory=dict)  # state of the controller of the rate

    def to_json(self) -> dict[str, Any]:
        """Return the checkpoint's JSON state, with None for an infinite loss."""
        return {**dataclasses.asdict(self), "best_loss": None if math.isinf(self.best_loss) else self.best_loss}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """Restore what `to_json` returned.

        Raises:
            ValueError: another version of this project wrote the values.
        """
        try:
            best = values["best_loss"]
            return cls(**{**values, "best_loss": math.inf if best is None else best})
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


class Checkpoints(ABC):
    """Save and restore a run's checkpoints, in one of two forms. Each form resumes from the other.

    All processes of a run call the methods together.

    Args:
        files: paths of the experiment's files.
        model: model to save and restore.
        optimizer: optimizer to save and restore.
        first: True on rank 0.
    """

    def __init__(self, files: ExperimentFiles, model: TextModel, optimizer: torch.optim.Optimizer, first: bool) -> None:
        self.files = files
        self.model = model
        self.optimizer = optimizer
        self.first = first

    @abstractmethod
    def save_latest(self, progress: Progress) -> None:
        """Save weights, the optimizer's state and progress, whole or not at all."""

    @abstractmethod
    def save_alone(self, progress: Progress) -> int | None:
        """Save as much as possible after another process has ended.

        Returns:
            The step of the latest saved state, or None if there is none.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Return the full model state dict. It is complete on rank 0."""

    def save_best(self, state: dict[str, Any]) -> None:
        """Save the full weights in one file with a JSON state."""
        weights = self.weights()
        if self.first:
            save_checkpoint(self.files.best, weights, state)

    def best_state(self) -> dict[str, Any]:
        """Return the state that `save_best` saved with the best weights.

        Raises:
            UserError: the file is absent or damaged.
        """
        return load_checkpoint(self.files.best, REMEDY)[1]

    def restore(self) -> Progress | None:
        """Load the latest state into model and optimizer.

        Returns:
            The saved progress, or None without a checkpoint.

        Raises:
            UserError: the checkpoint is damaged or does not fit.
        """
        file, folder = self.files.latest, self.files.latest_shards
        if self.first:
            put_back(folder)
        processes().wait_for_everyone()
        found: list[tuple[Progress, Callable[[], None]]] = []
        if file.exists():
            tensors, state = load_checkpoint(file, REMEDY)
            found.append((_progress(state, file), lambda: self._load(tensors)))
        if folder.exists():
            check_files(folder, REMEDY)
            state = read_record(folder / PROGRESS, REMEDY)
            found.append((_progress(state, folder), lambda: self._load_shards(folder)))
        if not found:
            return None
        # Both exist if a process was killed after it wrote one form and before it removed the other.
        progress, load = max(found, key=lambda each: (each[0].step, each[0].epoch))
        load()
        return progress

    def _load(self, tensors: dict[str, Tensor]) -> None:
        own = self.model.state_dict()
        weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        moments = {name.removeprefix("optimizer/"): t for name, t in tensors.items() if name.startswith("optimizer/")}
        placed = {name: placed_like(tensor, own[name]) if name in own else tensor for name, tensor in weights.items()}
        load_weights(self.model, placed, self.files.latest)
        parameters = dict(self.model.named_parameters())
        for key, value in moments.items():
            name, quantity = key.split("|")
            moments[key] = value if quantity == "step" else placed_like(value, parameters[name])
        load_optimizer(self.model, self.optimizer, moments)

    def _load_shards(self, folder: Path) -> None:
        alone = isinstance(self, WholeCheckpoints)
        weights = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}  # filled in place
        read_shards(folder / WEIGHTS, {"model": weights}, alone, REMEDY)
        parameters = dict(self.model.named_parameters())
        moments = {}
        for key in names_in(folder / MOMENTS, "optimizer", REMEDY):
            name, quantity = key.split("|")
            moments[key] = torch.zeros(()) if quantity == "step" else torch.zeros_like(parameters[name])
        read_shards(folder / MOMENTS, {"optimizer": moments}, alone, REMEDY)
        load_optimizer(self.model, self.optimizer, moments)


class WholeCheckpoints(Checkpoints):
    """Checkpoints of a model that every process holds in full. Rank 0 writes one file."""

    def save_latest(self, progress: Progress) -> None:
        """Save to `latest.safetensors`."""
        if not self.first:
            return
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        moments = optimizer_tensors(self.model, self.optimizer)
        tensors |= {f"optimizer/{name}": t for name, t in moments.items()}
        save_checkpoint(self.files.latest, tensors, progress.to_json())
        remove_folder(self.files.latest_shards)

    def save_alone(self, progress: Progress) -> int:
        """Save everything on rank 0, or on the process that takes its place."""
        self.first = self.first or inherit()
        self.save_latest(progress)
        return progress.step

    def weights(self) -> dict[str, Tensor]:
        """Return the model state dict."""
        return self.model.state_dict()


class ShardedCheckpoints(Checkpoints):
    """Checkpoints of a sharded model. Each process writes its part."""

    kept: int | None = None  # step of the latest saved state

    def save_latest(self, progress: Progress) -> None:
        """Save to the folder `latest/`."""
        with replacing_folder(self.files.latest_shards) if self.first else nullcontext("") as own:
            folder = Path(gathered([str(own)])[0])  # rank 0's folder
            write_shards(folder / WEIGHTS, {"model": self.model.state_dict()})
            write_shards(folder / MOMENTS, {"optimizer": optimizer_tensors(self.model, self.optimizer)})
            if self.first:
                write_record(folder / PROGRESS, progress.to_json())
                write_checksums(folder)
        if self.first:
            self.files.latest.unlink(missing_ok=True)
        processes().wait_for_everyone()
        self.kept = progress.step

    def save_alone(self, progress: Progress) -> int | None:
        """Save nothing, since the lost process held a part of the model; return the step of the last full save."""
        try:
            # The process may have ended after rank 0 put a checkpoint in place and before all processes knew it.
            return max(read_record(self.files.latest_shards / PROGRESS, REMEDY)["step"], self.kept or 0)
        except UserError:
            return self.kept

    def weights(self) -> dict[str, Tensor]:
        """Gather the full state dict in the CPU memory of rank 0."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast(dict[str, Tensor], get_model_state_dict(self.model, options=options))

    def restore(self) -> Progress | None:
        """Load the latest state from either form."""
        progress = super().restore()
        self.kept = None if progress is None else progress.step
        return progress


def _progress(state: dict[str, Any], path: Path) -> Progress:
    try:
        return Progress.from_json(state)
    except ValueError as error:
        raise UserError(f"{path} was written by another version of this project ({error}); {REMEDY}") from None
