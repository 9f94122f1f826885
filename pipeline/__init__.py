"""The suite around the models, and its Python interface.

    from pipeline import load_experiment
    nvae = load_experiment("outputs/demo/nvib")
    nvae.generate(10, seed=1)
    nvae.reconstruct(["the old king left the town."])

This package imports torch only when a model is loaded, so that `--help` answers at once.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.generation.trained_model import TrainedModel

__all__ = ["from_pretrained", "load_experiment"]


def load_experiment(
    folder: str | os.PathLike[str], data_dir: str | os.PathLike[str] = "data", reading: str | None = None
) -> "TrainedModel":
    """Load a trained experiment.

    Args:
        folder: the experiment's folder, `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>`.
        data_dir: folder of all prepared datasets. The configuration of the experiment names the dataset.
        reading: what the decoder of NVIB reads: `integral`, `no-prior`, `plug-in` or `draws-K`; if None, the
            experiment's own reading.

    Raises:
        UserError: if the experiment, its checkpoint or its data is missing or damaged, they do not fit each other, or
            the model has no such reading.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_experiment(folder, data_dir, reading)


def from_pretrained(name: str | os.PathLike[str], reading: str | None = None) -> "TrainedModel":
    """Load a model that `TrainedModel.save_pretrained` wrote. This needs no prepared data.

    Args:
        name: folder of the model, or its name on the Hugging Face hub.
        reading: what the decoder of NVIB reads, see `load_experiment`; if None, the model's own reading.

    Raises:
        UserError: if the model is missing, damaged or of another format, has no such reading, or the hub cannot be
            reached.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_pretrained(name, reading)
