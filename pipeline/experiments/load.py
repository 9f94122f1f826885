"""Load a trained experiment: its model with the best weights, and its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import build
from models.text_model import TextModel
from pipeline.data.dataset import PreparedData, difference, load_prepared
from pipeline.experiments.config import read_config, settings_from_json
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint, load_weights
from pipeline.runtime.devices import default_device, keep_freed_memory
from pipeline.runtime.errors import UserError


@dataclass(frozen=True)
class Experiment:
    """A trained model with its data, ready for evaluation.

    Args:
        files: paths of the experiment's files.
        config: content of its `config.json`.
        model: model with the best weights, in evaluation mode on `device`.
        data: prepared data that the model was trained on.
        device: device of the model.
    """

    files: ExperimentFiles
    config: dict[str, Any]
    model: TextModel
    data: PreparedData
    device: torch.device


def load_experiment(output_dir: Path, project: str, name: str, data_dir: Path) -> Experiment:
    """Load an experiment of a project by name. See `load_experiment_of`."""
    return load_experiment_of(ExperimentFiles.of(output_dir, project, name), data_dir)


def load_experiment_of(files: ExperimentFiles, data_dir: Path) -> Experiment:
    """Load an experiment's best weights and its data.

    Raises:
        UserError: the experiment, its checkpoint or its data is absent, damaged or does not fit.
    """
    config = read_config(files)
    if not files.best.exists():
        raise UserError(
            f"{files.best} does not exist: the experiment has not finished its first epoch; run train.py again"
        )

    keep_freed_memory()
    settings = settings_from_json(config["model"], files.config)
    data = load_prepared(data_dir, config["data"]["name"])
    if differs := difference(config["data"], data.identity):
        raise UserError(
            f"{Path(data_dir) / config['data']['name']} is not the data that {files.folder.name!r} was trained on "
            f"({differs}); prepare it as it was, or train the experiment anew"
        )
    tensors, _ = load_checkpoint(files.best, "train the experiment anew")
    model = build(settings)
    load_weights(model, tensors, files.best)
    device = default_device()
    return Experiment(files, config, model.to(device).eval(), data, device)
