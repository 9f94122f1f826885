"""Points of a run whose rate falls: each is saved as an experiment of its own, which every other script takes."""

import dataclasses
import glob
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pipeline.experiments.config import read_config, write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.weights import save_checkpoint
from pipeline.runtime.errors import UserError
from pipeline.training.rate_control import octaves


def octave_files(files: ExperimentFiles, rate: float) -> ExperimentFiles:
    """Return the files of the experiment of one rate, `<name>-rate-<rate>` beside the run itself."""
    return dataclasses.replace(files, folder=files.folder.with_name(f"{files.folder.name}-rate-{rate:g}"))


def check_octaves(files: ExperimentFiles, path: Sequence[float] | None) -> None:
    """Check that the points of a path would replace nothing but saved points.

    Raises:
        UserError: the folder of a point holds something else.
    """
    for rate in octaves(path):
        own = octave_files(files, rate)
        # A process that was killed while it saved may have left a hidden file alone.
        if any(own.folder.glob("[!.]*")) and _path_of(own) is None:
            raise UserError(
                f"--RATE_PATH saves its point of {rate:g} nats in {own.folder}, which is no point of a path; move it "
                "away, or choose another --EXPERIMENT_NAME"
            )


def remove_octaves(files: ExperimentFiles) -> list[str]:
    """Remove the points that an earlier run saved, and return their names."""
    beside = files.folder.parent.glob(f"{glob.escape(files.folder.name)}-rate-*")
    points = [ExperimentFiles(folder) for folder in sorted(beside)]
    removed = [own for own in points if own in [octave_files(files, rate) for rate in octaves(_path_of(own))]]
    for own in removed:
        own.remove()
    return [own.name for own in removed]


def _path_of(own: ExperimentFiles) -> Sequence[float] | None:
    """Return the path that an experiment is a saved point of; None if it is none, such as a run of its own."""
    if own.begun or not own.config.exists():
        return None
    try:
        return read_config(own)["training"].get("rate_path")
    except UserError:
        return None


def save_octave(
    files: ExperimentFiles,
    rate: float,
    weights: Mapping[str, Tensor],
    epoch: int,
    figures: Mapping[str, float],
    control: Mapping[str, Any],
) -> None:
    """Save the weights of a run at one rate of its path, with their figures on the validation split.

    Args:
        files: files of the run.
        rate: point of the path, nats a vector.
        weights: full model state dict.
        epoch: epoch of the run, from 1.
        figures: validation figures by name.
        control: state of the controller, whose prices a run that starts from the point begins with.
    """
    own = octave_files(files, rate)
    own.remove()
    own.folder.mkdir(parents=True)
    # First of all: by it `check_octaves` knows the folder again, also if this process is killed here.
    write_config(own, {**read_config(files), "wandb_id": secrets.token_hex(4)})
    state: dict[str, Any] = {"epoch": epoch, "validation": dict(figures), "control": dict(control)}
    save_checkpoint(own.best, dict(weights), state)
    summary = {f"validation/{name}": value for name, value in figures.items()}
    Tracker(own, run=None, offline=True).summarise({**summary, "best_epoch": epoch})
