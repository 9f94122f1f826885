"""Where tuning looks: a range for each setting that is worth tuning. A model's space is those that it has."""

import dataclasses
from dataclasses import dataclass

from pipeline.experiments.training_settings import TrainingSettings


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, evenly or, with `log`, evenly by their logarithms."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[object, ...]


SPACES: dict[str, Range | Choice] = {
    # training
    "learning_rate": Range(3e-4, 3e-3, log=True),
    # every model
    "dropout": Range(0.0, 0.3),
    # models with Gaussians
    "kl_gaussian_lambda": Range(1e-5, 1e-1, log=True),
    "kl_annealing_gaussian": Choice(("constant", "monotonic", "cyclic")),
    # VTP
    "pooling": Choice(("mean", "max")),
    # VTS
    "stride_perc": Range(0.2, 0.8),
    # NVIB
    "kl_dirichlet_lambda": Range(1e-3, 1e1, log=True),
    "kl_annealing_dirichlet": Choice(("constant", "monotonic", "cyclic")),
    "delta": Range(0.0, 1.0),
}


def space_of(settings: type) -> dict[str, Range | Choice]:
    """The settings of a model, and of training, that are tuned."""
    fields = {field.name for kind in (settings, TrainingSettings) for field in dataclasses.fields(kind)}
    return {name: space for name, space in SPACES.items() if name in fields}
