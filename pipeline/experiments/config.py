"""An experiment on disk: `outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>/` and what its files are."""

import dataclasses
import json
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import MODELS, ModelSettings, build
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.checkout import commit
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record
from pipeline.runtime.locks import claim, leave_to_the_first
from pipeline.runtime.processes import is_first

if TYPE_CHECKING:
    import torch

    from models.text_model import TextModel
    from pipeline.data.dataset import PreparedData


@dataclass(frozen=True)
class ExperimentFiles:
    """Where an experiment keeps what."""

    folder: Path

    @classmethod
    def of(cls, output_dir: Path, project: str, experiment: str) -> "ExperimentFiles":
        """The files of an experiment of a project."""
        return cls(Path(output_dir) / project / experiment)

    def claim(self) -> None:
        """Be the one process that writes this experiment, for as long as this process lives; the first of several.

        Raises:
            UserError: another process writes it.
        """
        lock = self.folder.parent / f".{self.folder.name}.lock"
        if not is_first():
            leave_to_the_first(lock)
            return
        claim(lock, f"experiment {self.folder.name!r}")

    def remove(self) -> None:
        """Remove the experiment: from one moment to the next, so that no part of it is ever taken for a new one's."""
        folder = self.folder.resolve()  # of a link, what it leads to
        if folder.exists():
            removed = folder.with_name(f".{folder.name}.removed")
            shutil.rmtree(removed, ignore_errors=True)
            folder.rename(removed)
            if self.folder.is_symlink():
                folder.mkdir()
            shutil.rmtree(removed, ignore_errors=True)

    @property
    def config(self) -> Path:
        """Settings of model and training, the data's fingerprint, versions."""
        return self.folder / "config.json"

    @property
    def metrics(self) -> Path:
        """One line of figures an epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def histograms(self) -> Path:
        """One line an epoch: counts and edges of the latent's quantities."""
        return self.folder / "histograms.jsonl"

    @property
    def summary(self) -> Path:
        """All final figures, flat."""
        return self.folder / "summary.json"

    @property
    def failure(self) -> Path:
        """Why training ended early, if it did."""
        return self.folder / "failure.json"

    @property
    def latest(self) -> Path:
        """The checkpoint that an interrupted run continues from."""
        return self.folder / "latest.safetensors"

    @property
    def latest_shards(self) -> Path:
        """The same where the processes of a run hold the model together, a part each: a folder."""
        return self.folder / "latest"

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return self.latest.exists() or self.latest_shards.exists()

    @property
    def best(self) -> Path:
        """The weights with the lowest validation loss: what evaluation takes."""
        return self.folder / "best.safetensors"

    @property
    def samples(self) -> Path:
        """Generated sentences."""
        return self.folder / "samples.jsonl"

    @property
    def wandb(self) -> Path:
        """wandb's own files."""
        return self.folder / "wandb"


@dataclass(frozen=True)
class Experiment:
    """A trained model with its data, ready for evaluation."""

    files: ExperimentFiles
    config: dict[str, Any]
    model: "TextModel"
    data: "PreparedData"
    device: "torch.device"


def settings_to_json(settings: ModelSettings) -> dict[str, Any]:
    """A model's settings with its name, as `config.json` holds them."""
    return {"name": settings.name, **dataclasses.asdict(settings)}


def settings_from_json(values: dict[str, Any], path: Path, remedy: str = "train the experiment anew") -> ModelSettings:
    """A model's settings from `config.json`.

    Raises:
        UserError: the model is unknown or the settings are not its own; the message ends with `remedy`.
    """
    try:
        values = dict(values)
        return MODELS[values.pop("name")](**values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no settings of a model that is known here ({error}); {remedy}") from None


def cleaning(config: dict[str, Any]) -> str:
    """How the sentences of an experiment's data were cleaned, one of `pipeline.data.cleaning.CLEANERS`."""
    return (config["data"].get("settings") or {}).get("clean", "none")


def versions() -> dict[str, str]:
    """Versions that a result depends on, and the commit of this project where it is a git checkout."""
    import importlib.metadata

    packages = ("nvib-suite", "torch", "accelerate", "datasets", "tokenizers")
    found = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
    return found | {"commit": commit()}


def new_config(
    settings: ModelSettings, training: TrainingSettings, name: str, identity: dict[str, Any]
) -> dict[str, Any]:
    """What `config.json` of a new experiment holds; the data is known by its name and identity."""
    return {
        "model": settings_to_json(settings),
        "training": dataclasses.asdict(training),
        "data": {"name": name, **identity},
        "versions": versions(),
        "wandb_id": secrets.token_hex(4),
    }


def flat_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as wandb compares it: the settings of model and training side by side, and which data it was."""
    flat = {key: value for part in ("model", "training") for key, value in config[part].items() if key != "name"}
    return {
        "model": config["model"]["name"],
        **flat,
        "data": config["data"]["name"],
        "data_fingerprint": config["data"].get("fingerprint"),
        "versions": json.dumps(config["versions"]),
    }


def write_config(files: ExperimentFiles, config: dict[str, Any]) -> None:
    """Write an experiment's `config.json`."""
    write_record(files.config, config)


def read_config(files: ExperimentFiles) -> dict[str, Any]:
    """Read an experiment's `config.json`.

    Raises:
        UserError: there is no such experiment, or the file is damaged.
    """
    if not files.config.exists():
        project = files.folder.parent
        known = names_in(project)
        there = f"there are: {', '.join(known)}" if known else f"{project} holds none"
        raise UserError(
            f"no experiment {files.folder.name!r} in {project} ({there}); train it with "
            f"train.py --EXPERIMENT_NAME {files.folder.name}"
        )
    remedy = "train the experiment anew under another name"
    config = read_record(files.config, remedy)
    if not {"model", "training", "data"} <= config.keys():
        raise UserError(f"{files.config} is no configuration of an experiment; {remedy}")
    return config


def experiment_names(output_dir: Path, project: str) -> list[str]:
    """The experiments of a project, by name.

    Raises:
        UserError: it has none.
    """
    names = names_in(Path(output_dir) / project)
    if not names:
        raise UserError(
            f"{Path(output_dir) / project} holds no experiments; train one with train.py --PROJECT_NAME {project}"
        )
    return names


def names_in(project: Path) -> list[str]:
    """The names of the experiments in a project's folder."""
    folders = (path.parent.name for path in project.glob("*/config.json"))
    return sorted(name for name in folders if not name.startswith("."))  # such a one is being removed


def load_experiment(output_dir: Path, project: str, name: str, data_dir: Path) -> Experiment:
    """Load an experiment of a project by its names; see `load_experiment_of`."""
    return load_experiment_of(ExperimentFiles.of(output_dir, project, name), data_dir)


def load_experiment_of(files: ExperimentFiles, data_dir: Path) -> Experiment:
    """Load an experiment's best weights and its data.

    Raises:
        UserError: the experiment, its checkpoint or its data is absent, damaged or does not fit.
    """
    config = read_config(files)
    if not files.best.exists():
        raise UserError(
            f"{files.best} is not there: the experiment has not finished its first epoch; run train.py again"
        )

    from pipeline.data.dataset import difference, load_prepared
    from pipeline.experiments.weights import load_checkpoint, load_weights
    from pipeline.runtime.devices import default_device, keep_freed_memory

    keep_freed_memory()
    settings = settings_from_json(config["model"], files.config)
    data = load_prepared(data_dir, config["data"]["name"])
    if differs := difference(config["data"], data.identity):
        raise UserError(
            f"{Path(data_dir) / config['data']['name']} is not the data that {files.folder.name!r} was trained on "
            f"({differs}); prepare it as it was, or train the experiment anew"
        )
    tensors, _ = load_checkpoint(files.best, "train the experiment anew")
    model = build(settings)
    load_weights(model, tensors, files.best)
    device = default_device()
    return Experiment(files, config, model.to(device).eval(), data, device)


@contextmanager
def failure_recorded(files: ExperimentFiles) -> Iterator[None]:
    """Write down why training ends early, for the report; a new attempt begins without an old reason."""
    files.failure.unlink(missing_ok=True)
    try:
        yield
    except UserError as error:
        write_record(files.failure, {"reason": str(error)})
        raise


def start_or_continue(files: ExperimentFiles, config: dict[str, Any]) -> dict[str, Any]:
    """Write a new experiment's `config.json`, or check that an earlier one is the same experiment.

    The number of epochs and steps, the patience, how often is saved, what is done about a loss that is not finite and
    how batches are read may differ: a finished run goes on to a later end.

    Returns:
        The configuration to go by: the earlier one's identity with the present settings.

    Raises:
        UserError: an experiment of this name was trained with other settings; the message names them.
    """
    if not files.config.exists():
        write_config(files, config)
        return config
    earlier = read_config(files)
    without_effect = {"save_steps", "on_non_finite", "loader_workers", "gradient_checkpointing"}
    free = {"training": {"epochs", "max_steps", "patience", *without_effect}}
    from pipeline.data.dataset import difference

    old, new = earlier["data"], config["data"]
    if old["name"] != new["name"] or difference(old, new):
        differs = difference(old, new)
        raise UserError(
            f"experiment {files.folder.name!r} was trained on {old['name']!r}, not on {new['name']!r}"
            f"{f' ({differs})' if differs else ''}; choose another --EXPERIMENT_NAME, prepare the data as it was, or "
            "train it anew with --RESTART True"
        )
    for part in ("model", "training"):
        for key in config[part].keys() | earlier[part].keys():
            old, new = earlier[part].get(key), config[part].get(key)
            if old != new and key not in free.get(part, ()):
                raise UserError(
                    f"experiment {files.folder.name!r} was trained with {key} = {old}, not {new}; choose another "
                    "--EXPERIMENT_NAME, or train it anew with --RESTART True"
                )
    config = {**config, "wandb_id": earlier["wandb_id"]}
    write_config(files, config)
    return config
