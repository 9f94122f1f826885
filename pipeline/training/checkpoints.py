"""The checkpoints that a run keeps: its latest state, to continue from, and its best weights, for all other scripts."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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

REMEDY = "train anew with --RESTART True"
# What a folder of shards holds; Accelerate calls the weights and the moments so, too.
WEIGHTS, MOMENTS, PROGRESS = "pytorch_model_fsdp_0", "optimizer_0", "progress.json"


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


class Checkpoints(ABC):
    """A run's checkpoints, in one of two forms; either goes on from what the other kept.

    All processes of a run call the methods together.

    Args:
        files: the experiment's.
        model: whose weights are kept and restored.
        optimizer: whose moments are.
        first: whether this is the only process or the first of several.
    """

    def __init__(self, files: ExperimentFiles, model: TextModel, optimizer: torch.optim.Optimizer, first: bool) -> None:
        self.files = files
        self.model = model
        self.optimizer = optimizer
        self.first = first

    @abstractmethod
    def save_latest(self, progress: Progress) -> None:
        """Keep weights, the optimizer's state and progress, whole or not at all."""

    @abstractmethod
    def save_alone(self, progress: Progress) -> int | None:
        """Keep what can be kept where another process is lost; the step that is kept then, None if none is."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The model's, whole, by name; of several processes the first has them."""

    def save_best(self, state: dict[str, Any]) -> None:
        """Keep the weights, in one file, with what is to be known of them."""
        weights = self.weights()
        if self.first:
            save_checkpoint(self.files.best, weights, state)

    def best_state(self) -> dict[str, Any]:
        """What `save_best` was told of the best weights.

        Raises:
            UserError: the file is absent or damaged.
        """
        return load_checkpoint(self.files.best, REMEDY)[1]

    def restore(self) -> Progress | None:
        """Put the latest state back into model and optimizer; None where there is none.

        Raises:
            UserError: it is damaged or does not fit.
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
        # Both are there where a process was killed between writing its own form and removing the other.
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
        from pipeline.training.fsdp_tensors import names_in, read_shards

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
    """Of a model that every process has whole: the first process writes a file."""

    def save_latest(self, progress: Progress) -> None:
        """To `latest.safetensors`."""
        if not self.first:
            return
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        moments = optimizer_tensors(self.model, self.optimizer)
        tensors |= {f"optimizer/{name}": t for name, t in moments.items()}
        save_checkpoint(self.files.latest, tensors, progress.to_json())
        remove_folder(self.files.latest_shards)

    def save_alone(self, progress: Progress) -> int:
        """All of it, if this is the first process or has taken its place; otherwise that one does."""
        self.first = self.first or inherit()
        self.save_latest(progress)
        return progress.step

    def weights(self) -> dict[str, Tensor]:
        """As they are."""
        return self.model.state_dict()


class ShardedCheckpoints(Checkpoints):
    """Of a model of which every process has a part, and writes it."""

    kept: int | None = None  # the step of what is kept

    def save_latest(self, progress: Progress) -> None:
        """To `latest/`."""
        from pipeline.training.fsdp_tensors import write_shards

        with replacing_folder(self.files.latest_shards) if self.first else nullcontext("") as own:
            folder = Path(gathered([str(own)])[0])  # the first process's
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
        """Nothing: the lost process had a part of it."""
        try:
            # A process may have ended after the first one put a checkpoint in place and before all had heard of it.
            return max(read_record(self.files.latest_shards / PROGRESS, REMEDY)["step"], self.kept or 0)
        except UserError:
            return self.kept

    def weights(self) -> dict[str, Tensor]:
        """Gathered in the first process's memory beside the device."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        return get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

    def restore(self) -> Progress | None:
        """From either form."""
        progress = super().restore()
        self.kept = None if progress is None else progress.step
        return progress


def _progress(state: dict[str, Any], path: Path) -> Progress:
    try:
        return Progress.from_json(state)
    except ValueError as error:
        raise UserError(f"{path} is of another version of this project ({error}); {REMEDY}") from None
