"""A study: the settings that are tuned, their objective, and the Optuna study that several processes may share."""

import dataclasses
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from models import ModelSettings
from models.declaration import Choice, Range
from pipeline.data.dataset import PreparedData
from pipeline.experiments.config import read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.recipes.search_space import space_of
from pipeline.runtime.errors import UserError
from pipeline.runtime.locks import release, turn

DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FAILURE = "failure"  # attribute of a trial: why it failed
RUNS = "wandb_ids"  # attribute of a trial: wandb id of its experiment, by seed
HEARTBEAT_SECONDS = 60
DEAD_SECONDS = 300  # without a heartbeat, after which a trial counts as dead


@dataclass(frozen=True)
class Weights:
    """Weights of the objective: validation cross-entropy + `gaussian` * KL_G + `dirichlet` * KL_D, in nats.

    They are the same for all trials, whatever the weights in their training losses are.
    """

    gaussian: float
    dirichlet: float

    def value(self, figures: Mapping[str, float]) -> float:
        """Objective of the validation figures of an epoch."""
        return (
            figures["validation/cross_entropy"]
            + self.gaussian * figures.get("validation/kl_gaussian", 0.0)
            + self.dirichlet * figures.get("validation/kl_dirichlet", 0.0)
        )


@dataclass(frozen=True)
class Tuning:
    """Settings of a study.

    Args:
        settings: dataclass of the model's settings.
        model_fields: settings of the model that are fixed.
        training_fields: settings of training that are fixed.
        weights: weights of the objective.
        seeds: seeds of every trial; the objective is the mean over them.
        data: prepared data.
        data_name: name of the data.
        data_dir: folder that holds all prepared data.
        output_dir: folder that holds all projects.
        project: project of the trials' experiments.
        entity: wandb user or team, or None.
    """

    settings: type[ModelSettings]
    model_fields: dict[str, Any]
    training_fields: dict[str, Any]
    weights: Weights
    seeds: Sequence[int]
    data: PreparedData
    data_name: str
    data_dir: Path
    output_dir: Path
    project: str
    entity: str | None

    @property
    def space(self) -> dict[str, Range | Choice]:
        """Tuning ranges of all settings that are not fixed."""
        fixed = self.model_fields.keys() | self.training_fields.keys()
        return {name: space for name, space in space_of(self.settings).items() if name not in fixed}

    @property
    def name(self) -> str:
        """Name of the study in file names. A project has one study for each model and dataset."""
        return f"{self.settings.name}-{self.data_name}"

    @property
    def study_name(self) -> str:
        """Name of the study in its database."""
        return f"{self.settings.name} on {self.data_name}"

    @property
    def folder(self) -> Path:
        """Folder of the project."""
        return Path(self.output_dir) / self.project

    @property
    def best(self) -> Path:
        """File of the best configuration, for `train.py --CONFIG`."""
        return self.folder / f"best-{self.name}.json"

    @property
    def sweep(self) -> Path:
        """File of the same search as a wandb sweep."""
        return self.folder / f"sweep-{self.name}.yaml"

    def files(self, number: int, seed: int) -> ExperimentFiles:
        """Files of the experiment of one trial and seed."""
        return ExperimentFiles(self.folder / f"tune-{self.name}-{number}-s{seed}")

    def experiments(self, trial: FrozenTrial) -> list[ExperimentFiles]:
        """Files of those experiments of a trial that are in this project's folder."""
        begun = {self.files(trial.number, int(seed)): name for seed, name in trial.user_attrs.get(RUNS, {}).items()}
        return [f for f, name in begun.items() if f.config.exists() and read_config(f)["wandb_id"] == name]

    def split(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Divide the settings of a trial into those of the model and those of training."""
        own = {field.name for field in dataclasses.fields(self.settings)}
        return (
            {name: value for name, value in params.items() if name in own},
            {name: value for name, value in params.items() if name not in own},
        )

    def refusal(self, found: Path) -> UserError:
        """Error for an experiment outside this study."""
        return UserError(
            f"{found} is no trial of this study; give the --STORAGE of the study that it belongs to, or another "
            f"--PROJECT_NAME, or move the experiments tune-{self.name}-* away"
        )

    def setup(self) -> dict[str, Any]:
        """Settings that all processes of a study must share."""
        return {
            "model": self.settings.name,
            "model_fields": self.model_fields,
            "training_fields": self.training_fields,
            "objective": dataclasses.asdict(self.weights),
            "seeds": list(self.seeds),
            "data": {"name": self.data_name, **self.data.identity},
        }


@contextmanager
def alone(tuning: Tuning) -> Iterator[None]:
    """Exclude the other processes of a study: while it is created, and while its best trial is looked up or tested.

    Afterwards this process releases its claims on all experiments.
    """
    tuning.folder.mkdir(parents=True, exist_ok=True)
    with turn(tuning.folder / f".tune-{tuning.name}.lock"):
        yield
        release()


def open_study(tuning: Tuning, storage: str) -> optuna.Study:
    """Create the study, or load it to continue.

    A trial whose process died stops its heartbeat, and is tried once more; one that was interrupted is tried anew.

    Args:
        tuning: settings of the study.
        storage: URL of its database.

    Raises:
        UserError: if the storage cannot be opened, if it contains a study with other settings under this name, or if
            the project contains trials of another study with the same model and data.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _load_or_create(tuning, storage)
    setup = json.dumps(tuning.setup(), sort_keys=True)
    _check_setup(study, setup, _without_password(storage))
    study.set_user_attr("setup", setup)
    _check_experiments(tuning, study)
    return study


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that came to an end. One whose process died did not, and is tried once more."""
    over = study.get_trials(deepcopy=False, states=DONE)
    return [trial for trial in over if trial.state != TrialState.FAIL or FAILURE in trial.user_attrs]


def best_trial(study: optuna.Study) -> FrozenTrial:
    """Return the trial with the lowest objective.

    Raises:
        UserError: if no trial is complete.
    """
    try:
        return study.best_trial
    except ValueError:
        raise UserError("no trial came to its end: all failed or were pruned; run more with --TRIALS") from None


def _load_or_create(tuning: Tuning, storage: str) -> optuna.Study:
    try:
        # Studies of other models share the database, and two processes cannot both create its tables.
        with turn(tuning.folder / ".storage.lock"), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = optuna.storages.RDBStorage(
                storage,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_SECONDS,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
            )
            return optuna.create_study(
                study_name=tuning.study_name,
                storage=backend,
                load_if_exists=True,
                direction="minimize",
                pruner=optuna.pruners.MedianPruner(),
            )
    except Exception as error:  # the URL, the driver, the file or the server may be wrong
        reason = _without_password(" ".join(str(error).split()))[:200]
        raise UserError(
            f"--STORAGE {_without_password(storage)} cannot be opened ({reason}); give a URL of a database, such as "
            "sqlite:///study.db"
        ) from None


def _check_setup(study: optuna.Study, setup: str, shown: str) -> None:
    """Check that a study has these settings (as JSON) and the format of this version; errors name the storage."""
    known = study.user_attrs.get("setup", setup)
    if known != setup:
        before, now = json.loads(known), json.loads(setup)
        changed = ", ".join(f"{key} = {before.get(key)}, not {now[key]}" for key in now if before.get(key) != now[key])
        precisions = [of.get("training_fields", {}).get("precision") for of in (before, now)]
        # No flag need differ: auto is what this machine computes faster in.
        own = f" (--PRECISION {precisions[0]})" if precisions[0] != precisions[1] and precisions[0] else ""
        raise UserError(
            f"{shown} holds a study {study.study_name!r} with {changed}; give the same settings{own}, or another "
            "--PROJECT_NAME (and another --STORAGE, where it is given)"
        )
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not all(RUNS in trial.user_attrs for trial in ended):
        raise UserError(
            f"{shown} holds a study {study.study_name!r} that an earlier version began, whose experiments have other "
            "names; give another --PROJECT_NAME (and another --STORAGE, where it is given)"
        )


def _check_experiments(tuning: Tuning, study: optuna.Study) -> None:
    """Check that every experiment in the project's folder with a trial's name belongs to the study."""
    trials = re.compile(rf"tune-{re.escape(tuning.name)}-\d+-s\d+")
    named = sorted(path.parent for path in tuning.folder.glob("*/config.json") if trials.fullmatch(path.parent.name))
    there = {folder: read_config(ExperimentFiles(folder)).get("wandb_id") for folder in named}
    # Read after the folders, because a trial records each run before the run creates its folder.
    own = {
        tuning.files(trial.number, int(seed)).folder: run
        for trial in study.get_trials(deepcopy=False)
        for seed, run in trial.user_attrs.get(RUNS, {}).items()
    }
    for folder, run in there.items():
        if own.get(folder) != run:
            raise tuning.refusal(folder)


def _without_password(text: str) -> str:
    """Text with the password of every database URL replaced."""
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
