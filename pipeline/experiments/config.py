"""An experiment's `config.json`: settings of model and training, identity of the data, versions."""

import dataclasses
import importlib.metadata
import json
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import MODELS, ModelSettings
from models.declaration import declared, shortened
from models.readings import KNOWN, canonical
from models.settings import NVAESettings
from pipeline.data.dataset import difference
from pipeline.experiments.paths import ExperimentFiles, names_in
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.checkout import commit
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record

# Training settings that may differ when a run is resumed: how long it trains, and settings that change no number.
FREE = {"epochs", "max_steps", "patience"}
FREE |= {"save_steps", "on_non_finite", "loader_workers", "gradient_checkpointing"}


def settings_to_json(settings: ModelSettings) -> dict[str, Any]:
    """Return a model's settings with its name, as `config.json` holds them."""
    return {"name": settings.name, **dataclasses.asdict(settings)}


# Settings of models of an earlier version, which had no such setting, where they are not today's defaults.
BEFORE = {NVAESettings.name: {"reading": "integral"}}


def settings_from_json(values: dict[str, Any], path: Path, remedy: str = "train the experiment anew") -> ModelSettings:
    """Build a model's settings from `config.json`.

    Raises:
        UserError: the model is unknown or has other settings. The message ends with `remedy`.
    """
    try:
        values = dict(values)
        name = values.pop("name")
        return MODELS[name](**{**BEFORE.get(name, {}), **values})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold the settings of a known model ({error}); {remedy}") from None


def as_it_began(files: ExperimentFiles, name: str) -> dict[str, Any]:
    """Return settings of an existing experiment whose defaults depend on the version or on what it started from.

    The same command resumes it with these, unless flags say otherwise.

    Args:
        files: files of the experiment.
        name: name of the model that is trained.
    """
    if not files.config.exists():
        return {}
    model = {**read_config(files)["model"]}
    if model.get("name") != name or name != NVAESettings.name:
        return {}
    usual = {"bottleneck": "plain", "alpha_activation": "exp", "kl_weighting": "share"} | BEFORE[name]
    return {setting: model.get(setting, value) for setting, value in usual.items()}


def other_reading(settings: ModelSettings, name: str, reading: str | None) -> str | None:
    """Return the reading that replaces a model's own in an evaluation; None if it is the model's own.

    Args:
        settings: settings of the model.
        name: name of the experiment, for messages.
        reading: what the decoder is to read (`models.readings`); None for the model's own reading.

    Raises:
        UserError: there is no such reading, or the model has one way to read its latent.
    """
    if reading is None:
        return None
    if not isinstance(settings, NVAESettings):
        raise UserError(f"--READING is for NVIB, and {name!r} is of the model {settings.name}; leave it out")
    found = canonical(reading)
    if found is None:
        raise UserError(f"the reading must be {KNOWN}, got {shortened(reading)}")
    return None if found == settings.reading else found


def with_reading(settings: ModelSettings, reading: str | None) -> ModelSettings:
    """Return settings with another reading, as `other_reading` returns it; None changes nothing."""
    return settings if reading is None else dataclasses.replace(settings, **{"reading": reading})


def cleaning(config: dict[str, Any]) -> str:
    """Return how the experiment's sentences were cleaned, a key of `pipeline.data.cleaning.CLEANERS`."""
    return (config["data"].get("settings") or {}).get("clean", "none")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, with the commit of this project in a git checkout."""
    packages = ("nvib-suite", "torch", "accelerate", "datasets", "tokenizers")
    found = {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
    return found | {"commit": commit()}


def new_config(
    settings: ModelSettings, training: TrainingSettings, name: str, identity: dict[str, Any]
) -> dict[str, Any]:
    """Return the `config.json` of a new experiment.

    Args:
        settings: settings of the model.
        training: settings of training.
        name: name of the prepared dataset.
        identity: `PreparedData.identity` of the dataset.
    """
    return {
        "model": settings_to_json(settings),
        "training": json.loads(json.dumps(dataclasses.asdict(training))),  # as it will be read
        "data": {"name": name, **identity},
        "versions": versions(),
        "wandb_id": secrets.token_hex(4),
    }


def flat_config(config: dict[str, Any]) -> dict[str, Any]:
    """Flatten `config.json` for wandb: settings of model and training side by side, and the data's identity."""
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
        UserError: the experiment does not exist, or the file is damaged.
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
        raise UserError(f"{files.config} is not the configuration of an experiment; {remedy}")
    return config


@contextmanager
def failure_recorded(files: ExperimentFiles) -> Iterator[None]:
    """Record why training ends early, for the report. Entering the context removes an older reason."""
    files.failure.unlink(missing_ok=True)
    try:
        yield
    except UserError as error:
        write_record(files.failure, {"reason": str(error)})
        raise


def start_or_continue(files: ExperimentFiles, config: dict[str, Any]) -> dict[str, Any]:
    """Write a new experiment's `config.json`, or check that an existing one is the same experiment.

    The training settings in `FREE` may differ: a finished run can resume to a later end. An existing file stays as it
    is, since this process may find nothing left to train; one that trains writes the configuration.

    Returns:
        The present configuration with the wandb id of the existing one.

    Raises:
        UserError: an experiment of this name has other settings or other data. The message names them.
    """
    if not files.config.exists():
        write_config(files, config)
        return config
    earlier = read_config(files)
    _require_same_data(files, earlier["data"], config["data"])
    # An experiment of an earlier version lacks newer settings; it was trained as their defaults are.
    model = MODELS.get(earlier["model"].get("name"))
    defaults = {
        setting.name: setting.default for kind in filter(None, (model, TrainingSettings)) for setting in declared(kind)
    } | BEFORE.get(earlier["model"].get("name"), {})
    for part in ("model", "training"):
        for key in config[part].keys() | earlier[part].keys():
            old, new = (values[part].get(key, defaults.get(key)) for values in (earlier, config))
            if old != new and not (part == "training" and key in FREE):
                other = "" if files.of_prior else "choose another --EXPERIMENT_NAME, or "
                raise UserError(
                    f"experiment {files.name!r} was trained with {key} = {old}, not {new}; {other}train it anew with "
                    "--RESTART True"
                )
    return {**config, "wandb_id": earlier["wandb_id"]}


def _require_same_data(files: ExperimentFiles, old: dict[str, Any], new: dict[str, Any]) -> None:
    differs = difference(old, new)
    if old["name"] != new["name"] or differs:
        raise UserError(
            f"experiment {files.folder.name!r} was trained on {old['name']!r}, not on {new['name']!r}"
            f"{f' ({differs})' if differs else ''}; choose another --EXPERIMENT_NAME, prepare the data as it was, or "
            "train it anew with --RESTART True"
        )
