"""Folder of a shared model, in the format of the Hugging Face hub.

    config.json        settings of model and training, the data's identity, lengths, figures, SHA-256 of the files below
    model.safetensors  weights
    tokenizer.json     tokenizer
    row_tokenizer.json columns of a table and their codes, for rows with tokens of their own
    prior.safetensors  weights of the learned prior, for an experiment that has one
    README.md          model card

The folder contains everything that generation needs, and no sentence of the data; that of a table has the
values of its categories.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.cleaning import CLEANERS
from pipeline.data.dataset import PreparedData
from pipeline.data.row_tokenizer import FILE as ROWS
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.data.tokenizer import FILE as TOKENIZER
from pipeline.data.tokenizer import load_tokenizer
from pipeline.experiments.base import build_model
from pipeline.experiments.config import cleaning, other_reading, settings_from_json, with_reading
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint, load_weights, save_checkpoint
from pipeline.generation.learned_prior import SHARED, writer_weights
from pipeline.generation.model_card import model_card
from pipeline.runtime.devices import default_device, keep_freed_memory
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, replacing_folder, write_record, write_text

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
REMEDY = "save it again with save_pretrained, or fetch it anew"
# Parts of an experiment's configuration that are shared; its page on wandb is not.
TRAVELS = ("model", "training", "data", "versions")


def save_shared(experiment: Experiment, figures: dict[str, Any], folder: Path) -> None:
    """Write the folder of a shared model atomically; see `TrainedModel.save_pretrained`.

    Raises:
        UserError: the folder contains anything but a shared model, or is the one that this process works in.
    """
    if folder.resolve() == Path.cwd():  # whoever works in it would be in a removed folder
        raise UserError(
            f"{folder.resolve()} is the folder that you are in, which cannot be replaced; name a new folder"
        )
    own = {CONFIG, WEIGHTS, TOKENIZER, ROWS, SHARED, CARD}
    prior = writer_weights(experiment)
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= own):
        raise UserError(f"{folder} exists and contains something other than a shared model; name a new folder")
    config = {part: experiment.config[part] for part in TRAVELS if part in experiment.config}
    lengths = experiment.data.length_distribution
    config |= {"length_distribution": {str(n): lengths[n] for n in sorted(lengths)}, "figures": figures}
    counts = experiment.data.statistics.get("labels") or {}
    config["labels"] = {label: counts.get(label, 0) for label in experiment.data.tokenizer.labels}
    with replacing_folder(folder) as new:
        save_checkpoint(new / WEIGHTS, experiment.model.state_dict(), {})
        experiment.data.tokenizer.save(new)
        if isinstance(experiment.data.tokenizer, RowTokenizer):
            config["source"] = _without_examples(experiment.data.statistics["source"])
        if prior is not None:
            config["prior"], tensors = prior
            save_checkpoint(new / SHARED, tensors, {})
        files = (WEIGHTS, TOKENIZER, ROWS, SHARED)
        config["sha256"] = {name: _sha256(new / name) for name in files if (new / name).exists()}
        write_record(new / CONFIG, config)
        write_text(new / CARD, model_card(config, folder.name))


def load_shared(name: str | os.PathLike, reading: str | None = None) -> tuple[Experiment, dict[str, Any]]:
    """Load a shared model and its figures.

    Args:
        name: a folder, or the name of a model on the Hugging Face hub.
        reading: what the decoder reads (`models.readings`); the model's own reading if None.

    Returns:
        The experiment, whose data has no splits, and the figures by name.

    Raises:
        UserError: the model is absent, damaged or not of this suite, it has no such reading, or the hub is unreachable.
    """
    paths = _files(name)
    config = read_record(paths[CONFIG], REMEDY)
    checksums = config.get("sha256")
    parts = [config.get(part) for part in ("model", "data", "figures", "length_distribution", "labels")]
    if not isinstance(checksums, dict) or not all(isinstance(part, dict) for part in parts):
        raise UserError(f"{paths[CONFIG]} is not the configuration of a shared model; {REMEDY}")
    further = tuple(file for file in (ROWS, SHARED) if file in checksums)
    paths |= _files(name, further)
    for file in (WEIGHTS, TOKENIZER, *further):
        if _sha256(paths[file]) != checksums.get(file):
            raise UserError(f"{paths[file]} is damaged, or belongs to another model than {CONFIG}; {REMEDY}")
    tensors, _ = load_checkpoint(paths[WEIGHTS], REMEDY)
    tokenizer = load_tokenizer(str(paths[TOKENIZER]))
    settings = settings_from_json(config["model"], paths[CONFIG], REMEDY)
    reading = other_reading(settings, paths[CONFIG].parent.name, reading)
    try:
        lengths = {int(length): int(count) for length, count in config["length_distribution"].items()}
        labels = {label: int(count) for label, count in config["labels"].items()}
        if not lengths or min(*lengths, *lengths.values(), *(count + 1 for count in labels.values())) < 1:
            raise ValueError("its lengths or their counts are below 1")
        if labels.keys() != tokenizer.labels.keys():
            raise ValueError("its labels differ from those of its tokenizer")
        if tokenizer.vocabulary_size > settings.vocabulary_size:
            raise ValueError("its tokenizer has more tokens than its model")
        if not isinstance(config["data"].get("name"), str) or cleaning(config) not in CLEANERS:
            raise ValueError("its data has no name, or its cleaning is unknown")
        model = build_model(with_reading(settings, reading))
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:  # sizes that are invalid, or exceed the memory
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{paths[CONFIG]} describes no model that can be built ({reason}); {REMEDY}") from None
    load_weights(model, tensors, paths[WEIGHTS])
    keep_freed_memory()
    device = default_device()
    trained = {label: count for label, count in labels.items() if count}
    statistics = {"labels": trained, "source": config.get("source")}
    data = PreparedData({}, tokenizer, statistics, lengths, str(config["data"].get("fingerprint")))
    files = ExperimentFiles(paths[CONFIG].parent)
    return Experiment(files, config, model.to(device).eval(), data, device, reading), config["figures"]


def _without_examples(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a table's rows without the values that the report of its preparation shows."""
    columns = {
        name: {**column, "seen": {**column.get("seen", {}), "examples": []}}
        for name, column in source["columns"].items()
    }
    return {**source, "columns": columns}


def _files(name: str | os.PathLike, wanted: Sequence[str] = (CONFIG, WEIGHTS, TOKENIZER)) -> dict[str, Path]:
    """Return the paths of a shared model's files, in its folder or downloaded from the hub.

    Raises:
        UserError: the folder or the model is absent, or the hub is unreachable.
    """
    name = os.fspath(name)
    if os.path.isdir(name):
        paths = {file: Path(name) / file for file in wanted}
        if missing := [file for file in wanted if not paths[file].is_file()]:
            trained = (
                "load an experiment with load_experiment" if (Path(name) / "best.safetensors").exists() else REMEDY
            )
            raise UserError(f"{name} is not a shared model (it has no {missing[0]}); {trained}")
        return paths
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*/[A-Za-z0-9_][A-Za-z0-9_.\-]*", name) or os.path.exists(name):
        raise UserError(
            f"{name[:200]} is neither a folder nor a model's name on the Hugging Face hub, such as owner/model"
        )
    try:
        from huggingface_hub import hf_hub_download, logging

        logging.set_verbosity_error()  # it logs every retry; the message below suffices
        return {file: Path(hf_hub_download(name, file)) for file in wanted}
    except Exception as error:  # network, permission or name: the download failed
        raise UserError(
            f"{name} is not a folder, and the Hugging Face hub did not deliver it ({type(error).__name__}); check "
            "the name and the connection"
        ) from None


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from None
