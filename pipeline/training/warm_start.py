"""Start training from the weights of another experiment, wherever both models have the same parameter."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models import ModelSettings
from models.text_model import TextModel
from pipeline.experiments.config import read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint
from pipeline.runtime.errors import UserError

SHAPES = ("dim_h", "num_heads", "num_layers")  # parameters of one name are interchangeable if these agree


def start_from(
    model: TextModel, source: ExperimentFiles, own: ExperimentFiles, identity: Mapping[str, Any]
) -> list[str]:
    """Copy the best weights of an experiment into a model, wherever both have the parameter.

    Args:
        model: model with fresh weights.
        source: files of the experiment to copy from.
        own: files of the experiment that starts.
        identity: identity of the data that `model` will be trained on. The text may differ, the tokenizer may not.

    Returns:
        Names of the parameters that the source does not have, which stay fresh.

    Raises:
        UserError: the source does not exist, has no weights, or has other sizes or another tokenizer.
    """
    name = source.folder.name
    if source == own:
        raise UserError(f"--START_FROM {name}: it is the experiment itself; choose another --EXPERIMENT_NAME")
    config = read_config(source)
    if config["data"].get("tokenizer_fingerprint") != identity["tokenizer_fingerprint"]:
        raise UserError(
            f"--START_FROM {name}: its data {config['data']['name']!r} has another tokenizer; prepare "
            "this one's with --TOKENIZER and the folder of that one's"
        )
    if differ := _differing(config["model"], model.settings):
        raise UserError(f"--START_FROM {name}: {differ}; give the same")
    if not source.best.exists():
        raise UserError(f"--START_FROM {name}: it has not finished its first epoch; run its train.py again")
    found, _ = load_checkpoint(source.best, "train that experiment anew")
    fresh: dict[str, Tensor] = model.state_dict()
    taken = {key: found[key] for key in fresh if key in found}
    try:
        model.load_state_dict(fresh | taken)
    except RuntimeError as error:
        raise UserError(f"--START_FROM {name}: {' '.join(str(error).split())[:200]}") from None
    return [key for key in fresh if key not in taken]


def _differing(theirs: Mapping[str, Any], own: ModelSettings) -> str:
    """Describe the sizes in which two models differ. Empty if they agree."""
    differ = [(name.upper(), theirs.get(name), getattr(own, name)) for name in SHAPES]
    return ", ".join(f"it has {name} = {a}, not {b}" for name, a, b in differ if a != b)
