"""A trained language model as the learned prior of an autoencoder with the same data."""

import secrets
import shutil
from typing import Any

from models.registry import kind_of
from models.settings import LanguageModelSettings
from pipeline.data.base_models import base_folder
from pipeline.data.dataset import difference
from pipeline.experiments.config import read_config, settings_from_json
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import REMEDY, forget_draws, read_summary
from pipeline.experiments.weights import load_checkpoint
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_records, replacing_folder, write_record

WITHOUT_POSTERIOR = ("T", LanguageModelSettings.name)


def check_autoencoder(files: ExperimentFiles, model: dict[str, Any]) -> None:
    """Check that an experiment is a model with posteriors, which a prior can be fitted to.

    Args:
        files: files of the experiment.
        model: its settings, in `config.json`.

    Raises:
        UserError: it is a language model or a vanilla Transformer, or has not finished its first epoch.
    """
    name = settings_from_json(model, files.config).name
    if name in WITHOUT_POSTERIOR:
        raise UserError(
            f"{files.name} is of the model {name}, which has no posterior, and so no prior; name a variational model"
        )
    if not files.best.exists():
        raise UserError(f"{files.name} has not finished its first epoch; run its train.py again")


def causal_base(model: dict[str, Any]) -> str | None:
    """Return the pretrained model that the prior of an autoencoder is built around; None for a prior from scratch.

    An encoder-decoder has no language model: the prior has its sizes and fresh weights.

    Args:
        model: settings of the autoencoder, in `config.json`.
    """
    name = model.get("pretrained")
    return name if name is not None and kind_of(base_folder(name)) == "causal" else None


def taken_over(own: ExperimentFiles) -> bool:
    """Return whether a prior was copied from an experiment; False without a prior, or for one that is trained."""
    return own.config.exists() and "from" in read_config(own)


def take_over(source: ExperimentFiles, own: ExperimentFiles, config: dict[str, Any]) -> None:
    """Copy a trained language model as the prior of an autoencoder, whole or not at all; for rank 0.

    Args:
        source: files of the language model.
        own: files of the prior, which are replaced.
        config: `config.json` of the autoencoder.

    Raises:
        UserError: the source is no trained language model, has other data or a damaged file.
    """
    found = read_config(source)
    if not isinstance(settings_from_json(found["model"], source.config), LanguageModelSettings):
        raise UserError(f"--FROM {source.name} is of the model {found['model']['name']}; name one with --MODEL LM")
    if differs := difference(found["data"], config["data"]):
        raise UserError(
            f"--FROM {source.name} was trained on other data than the autoencoder ({differs}); name another"
        )
    if not source.best.exists():
        raise UserError(f"--FROM {source.name} has not finished its first epoch; run its train.py again")
    load_checkpoint(source.best, f"train {source.name} anew")
    read_summary(source)
    if source.metrics.exists():
        read_records(source.metrics, REMEDY)
    own.claim()
    with replacing_folder(own.folder) as new:
        for path in (source.best, source.metrics, source.summary):
            if path.exists():
                shutil.copyfile(path, new / path.name)
        write_record(new / own.config.name, {**found, "wandb_id": secrets.token_hex(4), "from": source.name})
        forget_draws(ExperimentFiles(own.folder.parent))
