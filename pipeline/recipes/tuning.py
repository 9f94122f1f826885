"""Tuning a model's settings across seeds with Optuna: trials, pruning, and what is kept of them."""

import dataclasses
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import torch

from models import ModelSettings, build
from pipeline.evaluation.bleu import reconstruction_figures
from pipeline.experiments.config import new_config, read_config, write_config
from pipeline.experiments.load import load_experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import tracking
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.generation.generate import reconstruct, subset_batches
from pipeline.recipes.search_space import Choice, Range, space_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json, write_record, write_text
from pipeline.runtime.locks import release, turn
from pipeline.training.trainer import Trainer
from pipeline.training.validation import evaluate

if TYPE_CHECKING:
    from pipeline.data.dataset import PreparedData

DONE = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)
RUNS = "wandb_ids"  # a trial's attribute: its experiments by seed


class FailedError(UserError):
    """A trial failed; the study goes on."""


@dataclass(frozen=True)
class Weights:
    """The stated objective: validation cross-entropy + `gaussian` KL_G + `dirichlet` KL_D, a trial's own λ apart."""

    gaussian: float
    dirichlet: float

    def value(self, figures: Mapping[str, float]) -> float:
        """Of an epoch's validation figures."""
        return (
            figures["validation/cross_entropy"]
            + self.gaussian * figures.get("validation/kl_gaussian", 0.0)
            + self.dirichlet * figures.get("validation/kl_dirichlet", 0.0)
        )


@dataclass(frozen=True)
class Tuning:
    """What is tuned.

    Args:
        settings: the model's kind.
        model_fields: its settings that are fixed.
        training_fields: those of training.
        weights: the objective.
        seeds: of every trial; the objective is their mean.
        data: prepared.
        data_name: its name.
        data_dir: where it lies.
        output_dir: folder of all projects.
        project: whose experiments the trials are.
        entity: wandb user or team, or None.
    """

    settings: type[ModelSettings]
    model_fields: dict[str, Any]
    training_fields: dict[str, Any]
    weights: Weights
    seeds: Sequence[int]
    data: "PreparedData"
    data_name: str
    data_dir: Path
    output_dir: Path
    project: str
    entity: str | None

    @property
    def space(self) -> dict[str, Range | Choice]:
        """What is searched: a setting that was given is fixed."""
        fixed = self.model_fields.keys() | self.training_fields.keys()
        return {name: space for name, space in space_of(self.settings).items() if name not in fixed}

    @property
    def name(self) -> str:
        """Of the study in names of files: a project has one study of a model on a dataset."""
        return f"{self.settings.name}-{self.data_name}"

    @property
    def folder(self) -> Path:
        """Of the project."""
        return Path(self.output_dir) / self.project

    @property
    def best(self) -> Path:
        """The best configuration, for `train.py --CONFIG`."""
        return self.folder / f"best-{self.name}.json"

    @property
    def sweep(self) -> Path:
        """The same search for wandb."""
        return self.folder / f"sweep-{self.name}.yaml"

    def files(self, number: int, seed: int) -> ExperimentFiles:
        """Of a trial's run."""
        return ExperimentFiles(self.folder / f"tune-{self.name}-{number}-s{seed}")

    def refusal(self, found: Path) -> UserError:
        """That an experiment is there which is none of this study's trials."""
        return UserError(
            f"{found} is no trial of this study; give the --STORAGE of the study that it belongs to, or another "
            f"--PROJECT_NAME, or move away what is called tune-{self.name}-*"
        )

    def setup(self) -> dict[str, Any]:
        """What two processes must agree on to share a study."""
        return {
            "model": self.settings.name,
            "model_fields": self.model_fields,
            "training_fields": self.training_fields,
            "objective": dataclasses.asdict(self.weights),
            "seeds": list(self.seeds),
            "data": {"name": self.data_name, **self.data.identity},
        }


def _without_password(url: str) -> str:
    """A database's URL, or text with one in it, as it may be shown."""
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", url)


def open_study(tuning: Tuning, storage: str) -> optuna.Study:
    """Make the model's study, or continue it.

    A trial whose process died is noticed by its missing heartbeat, and tried again.

    Raises:
        UserError: the storage cannot be opened, or holds a study of another set-up under this name; or the project
            holds trials of another study with the same model and data.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = _without_password(storage)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = optuna.storages.RDBStorage(
                storage,
                heartbeat_interval=60,
                grace_period=300,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
            )
        name = f"{tuning.settings.name} on {tuning.data_name}"
        study = optuna.create_study(
            study_name=name,
            storage=backend,
            load_if_exists=True,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(),
        )
    except Exception as error:  # of the URL, the driver, the file, the server: all mean that there is no study
        reason = _without_password(" ".join(str(error).split()))[:200]
        raise UserError(
            f"--STORAGE {shown} cannot be opened ({reason}); give a URL of a database, such as sqlite:///study.db"
        ) from None
    setup = json.dumps(tuning.setup(), sort_keys=True)
    known = study.user_attrs.get("setup", setup)
    if known != setup:
        before, now = json.loads(known), json.loads(setup)
        changed = ", ".join(f"{key} = {before.get(key)}, not {now[key]}" for key in now if before.get(key) != now[key])
        raise UserError(
            f"{shown} holds a study {name!r} with {changed}; give the same settings, or another --PROJECT_NAME (and "
            "another --STORAGE, where it is given)"
        )
    ended = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not all(RUNS in trial.user_attrs for trial in ended):
        raise UserError(
            f"{shown} holds a study {name!r} that an earlier version began, whose experiments have other names; give "
            "another --PROJECT_NAME (and another --STORAGE, where it is given)"
        )
    study.set_user_attr("setup", setup)
    trials = re.compile(rf"tune-{re.escape(tuning.name)}-\d+-s\d+")
    named = sorted(path.parent for path in tuning.folder.glob("*/config.json") if trials.fullmatch(path.parent.name))
    there = {folder: read_config(ExperimentFiles(folder)).get("wandb_id") for folder in named}
    # After the folders: a trial's runs are known before they have one.
    own = {
        tuning.files(trial.number, int(seed)).folder: run
        for trial in study.get_trials(deepcopy=False)
        for seed, run in trial.user_attrs.get(RUNS, {}).items()
    }
    for folder, run in there.items():
        if own.get(folder) != run:
            raise tuning.refusal(folder)
    return study


def run_trials(tuning: Tuning, study: optuna.Study, trials: int) -> None:
    """Run trials until the study has as many, by this process or others."""

    def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        value = "" if trial.value is None else f", objective {trial.value:.4f}"
        reason = f" ({trial.user_attrs['failure']})" if "failure" in trial.user_attrs else ""
        print(f"trial {trial.number}: {trial.state.name.lower()}{value}{reason}; {trial.params}", flush=True)
        with alone(tuning):
            drop_weights(tuning, study)

    def objective(trial: optuna.Trial) -> float:
        # By its number, which it alone has: with one seed, processes that begin together would all propose the same
        # trials, and a study that is continued those that it has.
        study.sampler = optuna.samplers.TPESampler(seed=tuning.seeds[0] + trial.number)
        try:
            return _run(tuning, trial)
        finally:
            release()  # before others may find that it is the best, and test it

    stop = optuna.study.MaxTrialsCallback(trials, states=DONE)
    while len(study.get_trials(deepcopy=False, states=DONE)) < trials:
        study.optimize(objective, n_trials=1, catch=(FailedError,), callbacks=[after, stop])


@contextmanager
def alone(tuning: Tuning) -> Iterator[None]:
    """Be alone, among the processes that share a study: in making it, in looking for its best trial, in testing that.

    Afterwards this process has no experiment claimed any more.
    """
    tuning.folder.mkdir(parents=True, exist_ok=True)
    with turn(tuning.folder / f".tune-{tuning.name}.lock"):
        yield
        release()


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """The trial with the lowest objective.

    Raises:
        UserError: none came to its end.
    """
    try:
        return study.best_trial
    except ValueError:
        raise UserError("no trial came to its end: all failed or were pruned; run more with --TRIALS") from None


def write_best(tuning: Tuning, study: optuna.Study) -> dict[str, Any]:
    """Write the best trial's configuration where `train.py --CONFIG` reads it."""
    best = best_trial(study)
    model, training = _split(tuning, best.params)
    config = {
        "model": {"name": tuning.settings.name, **tuning.model_fields, **model},
        "training": {**tuning.training_fields, **training},
        "found_by": {
            "trial": best.number,
            "trials": len(study.get_trials(deepcopy=False, states=DONE)),
            "value": best.value,
            "value_is": "validation cross-entropy + gaussian * KL_G + dirichlet * KL_D, mean over seeds",
            **tuning.setup(),
        },
    }
    write_json(tuning.best, config)
    return config


def test_best(tuning: Tuning, study: optuna.Study, batch_size: int) -> dict[int, dict[str, Any]]:
    """Evaluate the best trial's models, and no others, on the test split; the figures go into their summaries.

    Returns:
        The figures by seed, of those whose models are in this folder. Who trained the best in another one knew it for
        the best at its own end, and tests it there.
    """
    tested = {}
    for files in _experiments(tuning, best_trial(study)):
        files.claim()
        experiment = load_experiment(tuning.output_dir, tuning.project, files.folder.name, tuning.data_dir)
        batches = subset_batches(experiment, "test", batch_size, "test")
        means = evaluate(experiment.model, batches, experiment.device, experiment.data.tokenizer.sep_id)
        # A language model reconstructs nothing: its perplexity is all there is.
        if experiment.model.settings.sees_target:
            means |= reconstruction_figures(reconstruct(experiment, "test", batch_size), means["perplexity"])
        figures = {f"test/{name}": value for name, value in means.items()}
        with tracking(files, experiment.config, tuning.entity) as tracker:
            tracker.summarise(figures)
        tested[experiment.config["training"]["seed"]] = figures
    return tested


def write_sweep(tuning: Tuning) -> None:
    """Write the same search as a sweep of wandb, whose agent runs train.py."""
    import yaml

    parameters: dict[str, Any] = {}
    for name, space in tuning.space.items():
        if isinstance(space, Choice):
            parameters[name.upper()] = {"values": list(space.values)}
        else:
            kind = "log_uniform_values" if space.log else "uniform"
            parameters[name.upper()] = {"distribution": kind, "min": space.low, "max": space.high}
    fixed = {"MODEL": tuning.settings.name, "DATA": tuning.data_name, "PROJECT_NAME": tuning.project}
    fixed |= {"DATA_DIR": str(tuning.data_dir), "OUTPUT_DIR": str(tuning.output_dir)}
    fixed |= {name.upper(): value for name, value in (tuning.model_fields | tuning.training_fields).items()}
    parameters |= {name: {"value": value} for name, value in fixed.items()}
    parameters["SEED"] = {"values": list(tuning.seeds)}
    sweep = {
        "program": "train.py",
        "method": "bayes",
        "metric": {"name": "validation/cross_entropy", "goal": "minimize"},
        "early_terminate": {"type": "hyperband", "min_iter": 2},
        "command": [
            *("${env}", "${interpreter}", "${program}"),
            *("--EXPERIMENT_NAME", "${envvar:WANDB_RUN_ID}"),
            *("--WANDB_ENTITY", tuning.entity or "${envvar:WANDB_ENTITY}"),
            "${args}",
        ],
        "parameters": parameters,
    }
    head = (
        f"# The search space of tune.py --MODEL {tuning.settings.name} as a sweep of Weights & Biases:\n"
        f"#   wandb sweep {tuning.sweep}    and then, with WANDB_ENTITY set,    wandb agent <what it printed>\n"
        "# A sweep knows one metric of one run: reconstruction alone, each seed by itself. tune.py adds the KL.\n"
    )
    write_text(tuning.sweep, head + yaml.safe_dump(sweep, sort_keys=False))


def drop_weights(tuning: Tuning, study: optuna.Study) -> None:
    """Remove the checkpoints of trials that are over and not the best: a hundred of them would fill a disk."""
    over = [trial for trial in study.get_trials(deepcopy=False) if trial.state in DONE]
    ended = [trial for trial in over if trial.state == optuna.trial.TrialState.COMPLETE]
    best = min(ended, key=lambda trial: trial.value).number if ended else None
    for trial in over:
        for files in _experiments(tuning, trial):
            files.latest.unlink(missing_ok=True)
            if trial.number != best:
                files.best.unlink(missing_ok=True)


def _experiments(tuning: Tuning, trial: optuna.trial.FrozenTrial) -> list[ExperimentFiles]:
    """A trial's experiments, as far as they are in this folder."""
    begun = {tuning.files(trial.number, int(seed)): name for seed, name in trial.user_attrs.get(RUNS, {}).items()}
    return [files for files, name in begun.items() if files.config.exists() and read_config(files)["wandb_id"] == name]


def _run(tuning: Tuning, trial: optuna.Trial) -> float:
    """Train a trial's models, a seed after the other; the mean objective of their best epochs.

    Raises:
        FailedError: training failed.
        UserError: another study has experiments of the trial's names.
    """
    model_fields, training_fields = _split(tuning, _suggest(trial, tuning.space))
    values: list[float] = []
    runs: dict[str, str] = {}
    reports = 0

    def report(row: dict[str, float]) -> None:
        nonlocal reports
        # A later seed reports the mean with those before it, so that trials are compared at equal steps.
        trial.report(sum([*values, tuning.weights.value(row)]) / (len(values) + 1), step=reports)
        reports += 1
        if trial.should_prune():
            raise optuna.TrialPruned

    for seed in tuning.seeds:
        files = tuning.files(trial.number, seed)
        files.claim()
        if files.config.exists():  # of a number that no other trial of this study has
            raise tuning.refusal(files.folder)
        try:
            settings = tuning.settings(
                vocabulary_size=tuning.data.tokenizer.vocabulary_size, **tuning.model_fields, **model_fields
            )
            training = TrainingSettings(**tuning.training_fields, **training_fields, seed=seed)
            config = new_config(settings, training, tuning.data_name, tuning.data.identity)
            runs[str(seed)] = config["wandb_id"]
            trial.set_user_attr(RUNS, runs)
            write_config(files, config)
            torch.manual_seed(seed)
            pruned = False
            with tracking(files, config, tuning.entity) as tracker:
                trainer = Trainer(build(settings), tuning.data, training, files, tracker, after_epoch=report)
                try:
                    figures = trainer.train()
                    tracker.summarise({**figures, "objective": tuning.weights.value(figures)})
                except optuna.TrialPruned:  # wandb need not call the run failed
                    pruned = True
            if pruned:
                write_record(
                    files.failure, {"reason": f"pruned after {reports} epochs: above the median of the trials"}
                )
                raise optuna.TrialPruned
            values.append(tuning.weights.value(figures))
        except UserError as error:
            trial.set_user_attr("failure", str(error))
            write_record(files.failure, {"reason": str(error)})
            raise FailedError(str(error)) from None
    return sum(values) / len(values)


def _suggest(trial: optuna.Trial, space: Mapping[str, Range | Choice]) -> dict[str, Any]:
    return {
        name: trial.suggest_categorical(name, each.values)
        if isinstance(each, Choice)
        else trial.suggest_float(name, each.low, each.high, log=each.log)
        for name, each in space.items()
    }


def _split(tuning: Tuning, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trial's settings: the model's, and training's."""
    own = {field.name for field in dataclasses.fields(tuning.settings)}
    return (
        {name: value for name, value in params.items() if name in own},
        {name: value for name, value in params.items() if name not in own},
    )
