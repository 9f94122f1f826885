"""The suite around the models, and its Python interface.

    from pipeline import load_experiment
    nvae = load_experiment("outputs/demo/nvib")
    nvae.generate(10, seed=1)
    nvae.reconstruct(["the old king left the town."])

Importing this package imports nothing heavy, so that a script's `--help` answers at once.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.generation.trained_model import TrainedModel

__all__ = ["from_pretrained", "load_experiment"]


def load_experiment(folder: str | os.PathLike[str], data_dir: str | os.PathLike[str] = "data") -> "TrainedModel":
    """Load a trained experiment.

    Args:
        folder: the experiment's folder, `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>`.
        data_dir: folder of all prepared datasets. The experiment's configuration names its own.

    Raises:
        UserError: the experiment, its checkpoint or its data is absent, damaged or does not fit.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_experiment(folder, data_dir)


def from_pretrained(name: str | os.PathLike[str]) -> "TrainedModel":
    """Load a model that `TrainedModel.save_pretrained` wrote. It needs no prepared data.

    Args:
        name: a folder, or a model's name on the Hugging Face hub.

    Raises:
        UserError: the model is absent, damaged, foreign or out of reach.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_pretrained(name)
