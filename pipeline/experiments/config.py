"""An experiment's `config.json`: settings of model and training, the identity of its data, versions."""

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
from pipeline.data.dataset import difference
from pipeline.experiments.paths import ExperimentFiles, names_in
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.checkout import commit
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, write_record


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
