"""Search space of tuning: the tuning ranges that settings declare, for Optuna and for sweeps of wandb."""

from collections.abc import Mapping
from typing import Any

import optuna

from models import ModelSettings
from models.declaration import Choice, Range, declared
from pipeline.experiments.training_settings import TrainingSettings

Space = Mapping[str, Range | Choice]

# A sampler draws the settings in this order, and from the same seed draws other values in another order. A setting that
# is not listed comes last.
ORDER = (
    "learning_rate",
    "dropout",
    "kl_gaussian_lambda",
    "kl_annealing_gaussian",
    "pooling",
    "stride_perc",
    "kl_dirichlet_lambda",
    "kl_annealing_dirichlet",
    "delta",
)


def space_of(settings: type[ModelSettings]) -> dict[str, Range | Choice]:
    """Tuning ranges of the settings of a model and of training, by name."""
    ranges = {
        setting.name: setting.tune
        for kind in (TrainingSettings, settings)
        for setting in declared(kind)
        if setting.tune is not None
    }
    known = [name for name in ORDER if name in ranges]
    return {name: ranges[name] for name in (*known, *(name for name in ranges if name not in ORDER))}


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draw a value for each setting of a space."""
    return {name: _suggest(trial, name, each) for name, each in space.items()}


def _suggest(trial: optuna.Trial, name: str, each: Range | Choice) -> str | float:
    if isinstance(each, Choice):
        return str(trial.suggest_categorical(name, each.values))
    if isinstance(each.low, int) and isinstance(each.high, int):
        return trial.suggest_int(name, each.low, each.high, log=each.log)
    return trial.suggest_float(name, each.low, each.high, log=each.log)


def sweep_parameters(space: Space) -> dict[str, Any]:
    """Parameters of a sweep of wandb that searches a space, by flag of train.py without its dashes."""
    parameters: dict[str, Any] = {}
    for name, each in space.items():
        if isinstance(each, Choice):
            parameters[name.upper()] = {"values": list(each.values)}
        else:
            whole = isinstance(each.low, int) and isinstance(each.high, int)
            kind = "int_uniform" if whole else "log_uniform_values" if each.log else "uniform"
            parameters[name.upper()] = {"distribution": kind, "min": each.low, "max": each.high}
    return parameters
