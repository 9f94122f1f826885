"""Points of a run whose rate falls: each is saved as an experiment of its own, which every other script takes."""

import dataclasses
import secrets
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.experiments.config import read_config, write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.weights import save_checkpoint


def octave_files(files: ExperimentFiles, rate: float) -> ExperimentFiles:
    """Return the files of the experiment of one rate, `<name>-rate-<rate>` beside the run itself."""
    return dataclasses.replace(files, folder=files.folder.with_name(f"{files.folder.name}-rate-{rate:g}"))


def save_octave(
    files: ExperimentFiles, rate: float, weights: Mapping[str, Tensor], epoch: int, figures: Mapping[str, float]
) -> None:
    """Save the weights of a run at one rate of its path, with their figures on the validation split.

    Args:
        files: files of the run.
        rate: point of the path, nats a vector.
        weights: full model state dict.
        epoch: epoch of the run, from 1.
        figures: validation figures by name.
    """
    own = octave_files(files, rate)
    own.remove()
    own.folder.mkdir(parents=True)
    state: dict[str, Any] = {"epoch": epoch, "validation": dict(figures)}
    save_checkpoint(own.best, dict(weights), state)
    write_config(own, {**read_config(files), "wandb_id": secrets.token_hex(4)})
    summary = {f"validation/{name}": value for name, value in figures.items()}
    Tracker(own, run=None, offline=True).summarise({**summary, "best_epoch": epoch})
