"""Plan experiments as commands: trainings, measurements and the report, which resume where they were stopped."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.corpora import NAMES
from pipeline.experiments.training_settings import DEFAULT_STEPS
from pipeline.recipes.kept_runs import KeptRuns
from pipeline.recipes.runner import Step, StepRunner
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, write_text

# Flags of every training. With several heads and without dropout, a model of one layer leaves the plateau of its first
# steps in a third of the steps.
COMMON = ("--NUM_HEADS", "4", "--DROPOUT", "0")


@dataclass(frozen=True)
class Run:
    """One experiment, trained once for each seed.

    Args:
        name: the experiments are `<name>-s<seed>`.
        model: name in the registry of models.
        measures: names in `MEASURES`.
        flags: flags of train.py other than those of the model and `COMMON`.
        seeds: number of seeds, None for all.
        start_from: name of the run from whose weights, of the same seed, it starts; None for fresh weights.
        steps: optimizer steps; those of the budget if None.
        tuned: True if a study finds the settings that `flags` leave open, where the budget has trials. All tuned runs
            of a model have the settings of its first.
        prior: name of the run whose language model, of the same seed, becomes the learned prior of the samples.
    """

    name: str
    model: str
    measures: tuple[str, ...]
    flags: tuple[str, ...] = ()
    seeds: int | None = None
    start_from: str | None = None
    steps: int | None = None
    tuned: bool = False
    prior: str | None = None

    @property
    def writes_alone(self) -> bool:
        """True if its samples are those of a language model: greedy decoding would repeat one sentence.

        `--PRIOR_TEXTS` makes the decoder one for draws of the plain prior.
        """
        return self.model == "LM" or self.prior is not None or "--PRIOR_TEXTS" in self.flags


RECONSTRUCTION = ("reconstruction-validation", "reconstruction-test")
GENERATION = ("sample", "forward", "reverse")
INTERPOLATION = ("interpolation",)
BOUNDS = ("bounds-validation", "bounds-test")  # reconstruction, with the bounds of the likelihood

RECORD = "paper.json"  # steps of the paper recipe that are done
TRIAL_PART = 5  # a trial of a study has one part of so many of a training's budget
# Samples of a learned prior: the latent decides, and its noise hardly changes a token.
LEARNED = ("--PRIOR", "learned", "--PRIOR_TOP_P", "0.95", "--LATENT_TEMPERATURE", "0.5")
DRAWN = ("--DECODING", "sample", "--TOP_P", "0.95")  # the language model's own samples too, which they compare with

JUDGE = "lm"  # experiment of the language model that judges samples
JUDGE_RUN = Run(JUDGE, "LM", ())


def training_flags(run: Run) -> tuple[str, ...]:
    """Flags of train.py for a run, other than those of its amount of training."""
    return ("--MODEL", run.model, *COMMON, *run.flags)


@dataclass(frozen=True)
class Budget:
    """Amount of training and measuring.

    Args:
        seeds: seeds of every run without a number of seeds of its own.
        max_steps: optimizer steps of every training, None for the default of train.py.
        batch_size: sentences per batch of every training, None for the default of train.py.
        samples: sentences that each model generates.
        importance_samples: draws per sentence for the bounds of the likelihood.
        pairs: pairs of sentences that are interpolated, None for all.
        sampling: further flags of sample.py.
        epochs: passes of every training over the sentences, None for a number of steps.
        minutes: minutes that `T` trains for at least, which `passes.in_minutes` turns into passes; None for no minimum.
        trials: trials of a study for each tuned run; none for the settings of the recipe.
        vocabulary: tokens of a WordPiece tokenizer for data that are not prepared yet; None for the data's usual one.
    """

    seeds: Sequence[int]
    max_steps: int | None
    batch_size: int | None
    samples: int
    importance_samples: int
    pairs: int | None
    sampling: tuple[str, ...] = ()
    epochs: int | None = None
    minutes: float | None = None
    trials: int = 0
    vocabulary: int | None = None

    def limit(self, steps: int | None = None, part: int = 1) -> tuple[str, ...]:
        """Flags of the amount of one training.

        Args:
            steps: optimizer steps, where a run has its own number.
            part: 1 for all of it, n for an n-th part.
        """
        number = self.max_steps if steps is None else steps
        if number is None and part > 1:
            number = DEFAULT_STEPS
        limit: tuple[str, ...] = () if number is None else ("--MAX_STEPS", str(max(1, number // part)))
        if self.epochs is not None and steps is None:
            limit = ("--EPOCHS", str(max(1, self.epochs // part)))
        return limit + (() if self.batch_size is None else ("--BATCH_SIZE", str(self.batch_size)))

    @property
    def judge_seed(self) -> int:
        """Seed of the judge: the least that no run has, for a model judges its own samples too well."""
        return next(seed for seed in itertools.count() if seed not in self.seeds)


@dataclass(frozen=True)
class Places:
    """Project, folders and wandb user of all experiments.

    Args:
        project: name of the project.
        output_dir: folder that holds all projects.
        data_dir: folder that holds all prepared data.
        entity: wandb user or team, or None.
    """

    project: str
    output_dir: Path
    data_dir: Path
    entity: str | None = None

    @property
    def folder(self) -> Path:
        """Folder of the project."""
        return self.output_dir / self.project

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of the places that every script takes."""
        return (
            *("--PROJECT_NAME", self.project),
            *("--OUTPUT_DIR", str(self.output_dir)),
            *("--DATA_DIR", str(self.data_dir)),
            *("--WANDB_ENTITY", self.entity or "None"),
        )


def reproduce(
    data: str,
    places: Places,
    runs: Sequence[Run],
    budget: Budget,
    jobs: int = 1,
    list_only: bool = False,
    record: str = RECORD,
    kept: Path | None = None,
) -> None:
    """Train and measure all runs and write the report, or resume where this was stopped.

    Args:
        data: name of the dataset, which is prepared first if it is not.
        places: project and folders.
        runs: the runs; one that starts from another comes after it.
        budget: amount of training and measuring.
        jobs: number of steps that run in parallel.
        list_only: True to print which steps are done and left, and run none.
        record: name of the file in the project's folder that records the steps.
        kept: folder of `KeptRuns`, None to keep none.

    Raises:
        UserError: if the dataset is neither prepared nor known by name, if a kept file is damaged, if a study has begun
            with other settings, or if steps fail.
    """
    steps, logs = plan(data, places, runs, budget), places.folder / "logs"
    prepared = is_prepared(data, places, budget)
    if not prepared and not list_only:  # before the others, whose experiments are compared with the data
        if StepRunner(steps[:1], places.folder / record, logs).run(jobs):
            raise UserError(f"prepare failed; its output is in {logs}, and the same command tries it again")
        prepared = True
    if prepared:
        steps = [Step(s.name, s.command, tuple(n for n in s.needs if n != "prepare")) for s in steps[1:]]
    runner = StepRunner(steps, places.folder / record, logs)
    runs_kept = None if kept is None else KeptRuns(kept, runner, statistics_of(data, places) if prepared else None)
    if runs_kept is not None:
        runs_kept.resume(list_only)
    print(runner.table(), flush=True)
    if list_only:
        return
    runner.check_studies()
    runner.check_data(statistics_of(data, places))
    write_text(places.folder / "settings.json", describe(runs, budget) + "\n")
    failed = runner.run(jobs)
    if failed and runs_kept is not None:
        runs_kept.complete()
    report = _report(places, steps)  # written even if steps failed; the report names what is missing
    failed += [report] if report is not None and runner.execute(report)[0] else []
    minutes = runner.seconds() / 60
    print(f"\n{runner.table()}\n\nthe steps that are done took {minutes:.1f} minutes, each by itself, together")
    if failed:
        raise UserError(
            f"{len(failed)} steps failed or need one that did: {', '.join(step.name for step in failed)}; their output "
            f"is in {runner.logs}, and the same command tries them again"
        )
    print(f"the report: {places.folder / 'report' / 'report.md'}")


def is_prepared(data: str, places: Places, budget: Budget) -> bool:
    """Return whether a dataset is prepared; if not, it can be.

    Raises:
        UserError: if the dataset is neither prepared nor known by name, or has another vocabulary than the budget's.
    """
    if not (places.data_dir / data / "statistics.json").exists():
        if data in NAMES:
            return False
        raise UserError(
            f"--DATA {data} is none of {', '.join(NAMES)}, and {places.data_dir} holds no such prepared "
            "dataset; prepare your own text with prepareDatasets.py first"
        )
    settings = statistics_of(data, places).get("settings") or {}
    found, asked = (settings.get("tokenizer"), settings.get("vocabulary_size")), budget.vocabulary
    if asked is not None and found != ("wordpiece", asked):
        raise UserError(
            f"--VOCAB_SIZE {asked}: {places.data_dir / data} is prepared with the tokenizer {found[0]}, --VOCAB_SIZE "
            f"{found[1]}; leave --VOCAB_SIZE out, or name another --DATA_DIR"
        )
    return True


def statistics_of(data: str, places: Places) -> dict[str, Any]:
    """Return the statistics of a prepared dataset, its identity among them."""
    return read_json(places.data_dir / data / "statistics.json", "prepare it again with prepareDatasets.py")


def prepare_step(data: str, places: Places, budget: Budget) -> Step:
    """Step that prepares a dataset."""
    asked = budget.vocabulary
    own = () if asked is None else ("--TOKENIZER", "wordpiece", "--VOCAB_SIZE", str(asked))
    command = ("prepareDatasets.py", "--DATA", data, *own, "--DATA_DIR", str(places.data_dir))
    return Step("prepare", command, result=places.data_dir / data / "statistics.json")


def _report(places: Places, steps: Iterable[Step]) -> Step | None:
    """Step that reports all experiments that have begun; None if none has."""
    names = [step.name.removeprefix("train ") for step in steps if step.name.startswith("train ")]
    begun = [name for name in names if (places.folder / name / "config.json").exists()]
    command = ("report.py", "--PROJECT_NAME", places.project, "--OUTPUT_DIR", str(places.output_dir))
    return Step("report", (*command, "--EXPERIMENTS", *begun)) if begun else None


def with_sources(runs: Sequence[Run], names: Collection[str] | None) -> list[Run]:
    """Return the runs of these names and those that they need, in order; all runs if `names` is None."""
    wanted = {run.name for run in runs} if names is None else set(names)
    for run in reversed(runs):
        if run.name in wanted:
            wanted |= {source for source in (run.start_from, run.prior) if source is not None}
    return [run for run in runs if run.name in wanted]


def plan(data: str, places: Places, runs: Iterable[Run], budget: Budget) -> list[Step]:
    """Plan all steps, each after those that it needs.

    Args:
        data: name of the dataset.
        places: project and folders.
        runs: the runs; one that starts from another comes after it.
        budget: amount of training and measuring.
    """
    steps = [prepare_step(data, places, budget)]

    def train(name: str, run: Run, seed: int) -> Step:
        source = None if run.start_from is None else f"{run.start_from}-s{seed}"
        start = () if source is None else ("--START_FROM", source)
        flags, needs = training_flags(run), ("prepare",) if source is None else ("prepare", f"train {source}")
        limit = budget.limit(run.steps)
        if run.tuned and budget.trials:
            found = places.output_dir / tuning / f"best-{run.model}-{data}.json"
            flags, needs = ("--MODEL", run.model, *COMMON, "--CONFIG", str(found)), (*needs, f"tune {run.model}")
            if not {"--MAX_STEPS", "--EPOCHS"} & set(limit):  # otherwise it would have that of a trial
                limit = ("--MAX_STEPS", str(DEFAULT_STEPS), *limit)
        command = ("train.py", "--EXPERIMENT_NAME", name, "--SEED", str(seed), *flags, *start)
        return Step(f"train {name}", (*command, *limit, "--DATA", data, *places.flags), needs)

    def tune(run: Run) -> Step:
        command = ("tune.py", "--MODEL", run.model, "--TRIALS", str(budget.trials), "--SEEDS", str(budget.judge_seed))
        limit = (*COMMON, *run.flags, *_objective(run), *budget.limit(part=TRIAL_PART), "--DATA", data)
        return Step(f"tune {run.model}", (*command, *limit, "--PROJECT_NAME", tuning, *places.flags[2:]), ("prepare",))

    runs, tuning = list(runs), f"{places.project}-tuning"
    if budget.trials:
        first: dict[str, Run] = {}
        for run in runs:
            if run.tuned:
                first.setdefault(run.model, run)
        steps += map(tune, first.values())
    steps.append(train(JUDGE, JUDGE_RUN, budget.judge_seed))
    for run in runs:
        for seed in budget.seeds[: run.seeds]:
            name = f"{run.name}-s{seed}"
            steps.append(train(name, run, seed))
            if run.prior is not None:
                source = f"{run.prior}-s{seed}"
                command = ("train_prior.py", "--EXPERIMENT_NAME", name, "--FROM", source, "--RESTART", "True")
                steps.append(Step(f"prior {name}", (*command, *places.flags), (f"train {name}", f"train {source}")))
            for measure in run.measures:
                script, flags, needs = MEASURES[measure](budget)
                if script == "sample.py" and run.prior is not None:
                    flags, needs = flags + LEARNED, (*needs, "prior")
                if script == "sample.py" and run.writes_alone and not budget.sampling:
                    flags += DRAWN
                steps.append(
                    Step(
                        f"{measure} {name}",
                        (script, "--EXPERIMENT_NAME", name, *flags, *places.flags),
                        tuple(need if " " in need else f"{need} {name}" for need in needs),
                    )
                )
    return steps


def _objective(run: Run) -> tuple[str, ...]:
    """Flags of tune.py that weigh the divergences in the objective as the run's own loss does."""
    weighed = {"--KL_GAUSSIAN_LAMBDA": "--KL_GAUSSIAN_WEIGHT", "--KL_DIRICHLET_LAMBDA": "--KL_DIRICHLET_WEIGHT"}
    pairs = zip(run.flags[::2], run.flags[1::2], strict=True)
    return tuple(part for flag, value in pairs if flag in weighed for part in (weighed[flag], value))


# A measurement: its script, its flags, and the steps that it needs. A step named by one word is of the same experiment.
Measure = Callable[[Budget], tuple[str, tuple[str, ...], tuple[str, ...]]]


def _reconstruction(subset: str, bounds: bool) -> Measure:
    def measure(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        draws = ("--IMPORTANCE_SAMPLES", str(budget.importance_samples)) if bounds else ()
        return "reconstruction.py", ("--DATA_SUBSET", subset, *draws), ("train",)

    return measure


def _interpolation(budget: Budget) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    pairs = () if budget.pairs is None else ("--NUMBER_PAIRS", str(budget.pairs))
    return "interpolation_evaluation.py", ("--LANGUAGE_MODEL", JUDGE, *pairs), ("train", f"train {JUDGE}")


MEASURES: dict[str, Measure] = {
    "reconstruction-validation": _reconstruction("validation", bounds=False),
    "reconstruction-test": _reconstruction("test", bounds=False),
    "bounds-validation": _reconstruction("validation", bounds=True),
    "bounds-test": _reconstruction("test", bounds=True),
    "interpolation": _interpolation,
    "regularisation": lambda budget: ("regularisation.py", (), ("train",)),
    "sample": lambda budget: (
        "sample.py",
        ("--NUMBER_SAMPLES", str(budget.samples), *budget.sampling),
        ("train",),
    ),
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
    """Runs and budget as JSON."""
    rows: list[Mapping[str, Any]] = [dataclasses.asdict(run) for run in runs]
    return json.dumps({"budget": dataclasses.asdict(budget), "runs": rows}, indent=2)
