"""The models: Transformer autoencoders and a language model behind one interface and one registry.

    from models import MODELS, build, load_experiment
    model = build(MODELS["NVIB"](vocabulary_size=8000))      # fresh weights
    nvae = load_experiment("outputs/demo/nvib")              # trained ones, with all that goes with them
    nvae.generate(10, seed=1)

Nothing heavy is imported until a model is built or loaded, so that a script's `--help` answers at once.
"""

import os
from typing import TYPE_CHECKING

from models.settings import MODELS, ModelSettings, NVAESettings, TransformerSettings, build

if TYPE_CHECKING:
    from pipeline.generation.trained_model import TrainedModel

__all__ = [
    "MODELS",
    "ModelSettings",
    "NVAESettings",
    "TransformerSettings",
    "build",
    "from_pretrained",
    "load_experiment",
]


def load_experiment(folder: str | os.PathLike, data_dir: str | os.PathLike = "data") -> "TrainedModel":
    """Load a trained experiment.

    Args:
        folder: of the experiment, `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>`.
        data_dir: folder of all prepared datasets; the experiment knows which is its own.

    Raises:
        UserError: the experiment, its checkpoint or its data is absent, damaged or does not fit.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_experiment(folder, data_dir)


def from_pretrained(name: str | os.PathLike) -> "TrainedModel":
    """Load what `TrainedModel.save_pretrained` wrote; it needs no prepared data.

    Args:
        name: a folder, or a model's name on the Hugging Face hub.

    Raises:
        UserError: it is absent, damaged, foreign or out of reach.
    """
    from pipeline.generation.trained_model import TrainedModel

    return TrainedModel.from_pretrained(name)
