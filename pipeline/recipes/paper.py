"""The paper's experiments as commands: what is trained, and what is measured of it."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.recipes.runner import Step

JUDGE = "lm"


@dataclass(frozen=True)
class Run:
    """An experiment, trained with every seed.

    Args:
        name: its experiments are `<name>-s<seed>`.
        model: of the registry.
        measures: which of `MEASURES` are taken.
        flags: of train.py, beside the model.
        seeds: how many of the seeds, None for all.
    """

    name: str
    model: str
    measures: tuple[str, ...]
    flags: tuple[str, ...] = ()
    seeds: int | None = None


RECONSTRUCTION = ("reconstruction-validation", "reconstruction-test")
GENERATION = ("sample", "forward", "reverse")
INTERPOLATION = ("interpolation",)
BOUNDS = ("bounds-validation", "bounds-test")  # reconstruction with the bounds beside

# What every training has beside train.py's defaults: with several heads and no dropout a model of one layer leaves
# the plateau of its first steps in a third of the steps.
COMMON = ("--NUM_HEADS", "4", "--DROPOUT", "0")
# And every model with Gaussians. With a weight as small as train.py's own, vectors lie so far apart that the weakest is
# found among the others, and none need be dropped. Each learns to reconstruct first, the NVAE in the fewest steps.
GAUSSIAN = ("--KL_GAUSSIAN_LAMBDA", "1")
MONOTONIC = ("--KL_ANNEALING_GAUSSIAN", "monotonic")
VARIATIONAL = (*GAUSSIAN, "--KL_WARMUP", "0.6", *MONOTONIC)
NONPARAMETRIC = (*GAUSSIAN, "--KL_WARMUP", "0.4", *MONOTONIC)
NONPARAMETRIC += ("--KL_ANNEALING_DIRICHLET", "monotonic", "--ALPHA_ACTIVATION", "relu")

RUNS = (
    Run("t", "T", (*RECONSTRUCTION, *INTERPOLATION)),
    Run("vtv", "VTV", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run("vtp", "VTP", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run("vts", "VTS", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL),
    Run(
        "nvib",
        "NVIB",
        (*RECONSTRUCTION, *GENERATION, *INTERPOLATION, "regularisation"),
        (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", "1", "--DELTA", "0.25"),
    ),
    # How far the regulariser drops vectors, and what of the text is left. The few pseudo-counts that strong ones leave
    # are shared by all that is kept, so that one well below train.py's threshold is still in use.
    *(
        Run(
            f"nvib-lambda{lambda_d}-delta{delta}",
            "NVIB",
            ("reconstruction-validation", "regularisation"),
            (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", lambda_d, "--DELTA", delta, "--ALPHA_THRESHOLD", "0.01"),
            seeds=1,
        )
        for lambda_d, delta in (("0.1", "0.5"), ("3", "0.1"), ("10", "0.05"), ("10", "0.02"))
    ),
    # The remedies of a collapse, with the model that it threatens most: all of a text in one vector. `vtp` is the one
    # with a warm-up.
    *(
        Run(f"vtp-{name}", "VTP", ("reconstruction-validation",), (*GAUSSIAN, *flags))
        for name, flags in (
            ("none", ()),
            ("free-bits", ("--FREE_BITS", "0.5")),
            ("word-dropout", ("--WORD_DROPOUT", "0.3")),
            ("cyclic", ("--KL_ANNEALING_GAUSSIAN", "cyclic")),
        )
    ),
)


def flags_of(name: str) -> tuple[str, ...]:
    """The flags of train.py with which a run of `RUNS`, or the judge, is trained."""
    if name == JUDGE:
        return ("--MODEL", "LM", *COMMON)
    run = next(run for run in RUNS if run.name == name)
    return ("--MODEL", run.model, *COMMON, *run.flags)


@dataclass(frozen=True)
class Budget:
    """How much is done.

    Args:
        seeds: that every run is trained with, unless it says otherwise; the judge has the first.
        max_steps: optimizer steps of every training, None for train.py's default.
        batch_size: sentences of every training's batches, None for train.py's default.
        samples: sentences that are generated.
        importance_samples: draws for the bounds.
        pairs: that are interpolated, None for all.
    """

    seeds: Sequence[int]
    max_steps: int | None
    batch_size: int | None
    samples: int
    importance_samples: int
    pairs: int | None


def plan(data: str, places: Sequence[str], runs: Iterable[Run], budget: Budget) -> list[Step]:
    """All steps, in an order in which each comes after those that it needs.

    Args:
        data: name of the dataset.
        places: flags that say where data and outputs lie and where is logged, as every script takes them.
        runs: of `RUNS`.
        budget: how much.
    """
    limit = () if budget.max_steps is None else ("--MAX_STEPS", str(budget.max_steps))
    limit += () if budget.batch_size is None else ("--BATCH_SIZE", str(budget.batch_size))
    data_dir = places[places.index("--DATA_DIR") + 1]
    steps = [Step("prepare", ("prepareDatasets.py", "--DATA", data, "--DATA_DIR", data_dir))]

    def train(name: str, run: str, seed: int) -> Step:
        command = ("train.py", "--EXPERIMENT_NAME", name, "--SEED", str(seed), *flags_of(run))
        return Step(f"train {name}", (*command, *limit, "--DATA", data, *places), ("prepare",))

    steps.append(train(JUDGE, JUDGE, budget.seeds[0]))
    for run in runs:
        for seed in budget.seeds[: run.seeds]:
            name = f"{run.name}-s{seed}"
            steps.append(train(name, run.name, seed))
            for measure in run.measures:
                script, flags, needs = MEASURES[measure](budget)
                steps.append(
                    Step(
                        f"{measure} {name}",
                        (script, "--EXPERIMENT_NAME", name, *flags, *places),
                        tuple(need if " " in need else f"{need} {name}" for need in needs),
                    )
                )
    return steps


def _reconstruction(subset: str, bounds: bool) -> Callable[[Budget], tuple[str, tuple[str, ...], tuple[str, ...]]]:
    def measure(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        draws = ("--IMPORTANCE_SAMPLES", str(budget.importance_samples)) if bounds else ()
        return "reconstruction.py", ("--DATA_SUBSET", subset, *draws), ("train",)

    return measure


def _interpolation(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    pairs = () if budget.pairs is None else ("--NUMBER_PAIRS", str(budget.pairs))
    return "interpolation_evaluation.py", ("--LANGUAGE_MODEL", JUDGE, *pairs), ("train", f"train {JUDGE}")


# Of each measure: its script, its flags, and the steps that it needs (of the same experiment where one word).
MEASURES: dict[str, Callable[[Budget], tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "reconstruction-validation": _reconstruction("validation", bounds=False),
    "reconstruction-test": _reconstruction("test", bounds=False),
    "bounds-validation": _reconstruction("validation", bounds=True),
    "bounds-test": _reconstruction("test", bounds=True),
    "interpolation": _interpolation,
    "regularisation": lambda budget: ("regularisation.py", (), ("train",)),
    "sample": lambda budget: ("sample.py", ("--NUMBER_SAMPLES", str(budget.samples)), ("train",)),
    "forward": lambda budget: (
        "forwardSampleEvaluation.py",
        ("--LANGUAGE_MODEL", JUDGE, "--DATA_SUBSET", "test"),
        ("sample", f"train {JUDGE}"),
    ),
    "reverse": lambda budget: (
        "reverseSampleEvaluation.py",
        ("--LANGUAGE_MODEL", JUDGE, "--DATA_SUBSET", "test"),
        ("sample", f"train {JUDGE}"),
    ),
}


def describe(runs: Iterable[Run], budget: Budget) -> str:
    """The settings of the whole, for the record, as JSON."""
    rows: list[Mapping[str, Any]] = [dataclasses.asdict(run) for run in runs]
    return json.dumps({"budget": dataclasses.asdict(budget), "runs": rows}, indent=2)
