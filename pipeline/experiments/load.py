"""Load a trained experiment: its model with the best weights, and its data."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.text_model import TextModel
from pipeline.data.dataset import PreparedData, difference, load_prepared
from pipeline.experiments.base import build_model
from pipeline.experiments.config import other_reading, read_config, settings_from_json, with_reading
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
        reading: reading that replaces the experiment's own, or None.
        parts: further models of the experiment, which are loaded once, by name.
    """

    files: ExperimentFiles
    config: dict[str, Any]
    model: TextModel
    data: PreparedData
    device: torch.device
    reading: str | None = None
    parts: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def with_settings(self, **changes: Any) -> "Experiment":
        """Return the experiment with other settings of its model that leave the weights as they are.

        Args:
            changes: settings of evaluation, such as `reading` and `alpha_threshold`.
        """
        model = build_model(dataclasses.replace(self.model.settings, **changes))
        model.load_state_dict(self.model.state_dict())
        return dataclasses.replace(self, model=model.to(self.device).eval())


def load_data(files: ExperimentFiles, config: dict[str, Any], data_dir: Path) -> PreparedData:
    """Load the data that an experiment was trained on.

    Args:
        files: paths of the experiment's files.
        config: content of its `config.json`.
        data_dir: folder of all prepared datasets.

    Raises:
        UserError: the data is absent or damaged, or was prepared in another way since.
    """
    data = load_prepared(data_dir, config["data"]["name"])
    if differs := difference(config["data"], data.identity):
        raise UserError(
            f"{Path(data_dir) / config['data']['name']} is not the data that {files.folder.name!r} was trained on "
            f"({differs}); prepare it as it was, or train the experiment anew"
        )
    return data


def load_experiment(
    output_dir: Path, project: str, name: str, data_dir: Path, reading: str | None = None
) -> Experiment:
    """Load an experiment of a project by name. See `load_experiment_of`."""
    return load_experiment_of(ExperimentFiles.of(output_dir, project, name), data_dir, reading)


def load_experiment_of(files: ExperimentFiles, data_dir: Path, reading: str | None = None) -> Experiment:
    """Load an experiment's best weights and its data.

    Args:
        files: paths of the experiment's files.
        data_dir: folder of all prepared datasets.
        reading: what the decoder reads (`models.readings`); the experiment's own reading if None.

    Raises:
        UserError: the experiment, its checkpoint or its data is absent, damaged or does not fit, or its model has no
            such reading.
    """
    config = read_config(files)
    if not files.best.exists():
        raise UserError(
            f"{files.best} does not exist: the experiment has not finished its first epoch; run train.py again"
        )

    keep_freed_memory()
    settings = settings_from_json(config["model"], files.config)
    reading = other_reading(settings, files.folder.name, reading)
    data = load_data(files, config, data_dir)
    tensors, _ = load_checkpoint(files.best, "train the experiment anew")
    model = build_model(with_reading(settings, reading))
    load_weights(model, tensors, files.best)
    device = default_device()
    return Experiment(files, config, model.to(device).eval(), data, device, reading)
