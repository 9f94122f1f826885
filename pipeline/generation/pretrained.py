"""A trained model as a folder that others load, in the format of the Hugging Face hub.

    config.json        settings of model and training, the data's identity, lengths, figures, SHA-256 of the files below
    model.safetensors  weights
    tokenizer.json     tokenizer
    README.md          a model card

It holds all that generation needs, and no sentence of the data.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import build
from pipeline.data.cleaning import CLEANERS
from pipeline.data.tokenizer import FILE as TOKENIZER
from pipeline.data.tokenizer import TextTokenizer, load_tokenizer
from pipeline.experiments.config import cleaning, settings_from_json
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint, load_weights, save_checkpoint
from pipeline.generation.model_card import model_card
from pipeline.runtime.devices import default_device, keep_freed_memory
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, replacing_folder, write_record, write_text

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
REMEDY = "save it again with save_pretrained, or fetch it anew"
# What of an experiment's configuration travels: its page on wandb does not.
TRAVELS = ("model", "training", "data", "versions")


@dataclass(frozen=True)
class SharedData:
    """What generation needs of the data that a model was trained on; `PreparedData` has it too."""

    tokenizer: TextTokenizer
    length_distribution: dict[int, int]
    statistics: dict[str, Any]  # of all there are, `labels`: how many training sentences have each


def save_shared(experiment: Experiment, figures: dict[str, Any], folder: Path) -> None:
    """Write a model's folder, whole or not at all; see `TrainedModel.save_pretrained`.

    Raises:
        UserError: the folder is there and holds anything but such a model.
    """
    own = {CONFIG, WEIGHTS, TOKENIZER, CARD}
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= own):
        raise UserError(f"{folder} is there and holds something else than a shared model; name a new folder")
    config = {part: experiment.config[part] for part in TRAVELS if part in experiment.config}
    lengths = experiment.data.length_distribution
    config |= {"length_distribution": {str(n): lengths[n] for n in sorted(lengths)}, "figures": figures}
    config["labels"] = experiment.data.statistics.get("labels") or {}
    with replacing_folder(folder) as new:
        save_checkpoint(new / WEIGHTS, experiment.model.state_dict(), {})
        experiment.data.tokenizer.save(new)
        config["sha256"] = {name: _sha256(new / name) for name in (WEIGHTS, TOKENIZER)}
        write_record(new / CONFIG, config)
        write_text(new / CARD, model_card(config, folder.name))


def load_shared(name: str | os.PathLike) -> tuple[Experiment, dict[str, Any]]:
    """Load a model's folder, from here or from the hub, and its figures.

    Raises:
        UserError: it is absent, damaged, foreign or out of reach.
    """
    paths = _files(name)
    config = read_record(paths[CONFIG], REMEDY)
    known_by = config.get("sha256")
    parts = [config.get(part) for part in ("model", "data", "figures", "length_distribution", "labels")]
    if not all(isinstance(part, dict) for part in (*parts, known_by)):
        raise UserError(f"{paths[CONFIG]} is no configuration of a shared model; {REMEDY}")
    for file in (WEIGHTS, TOKENIZER):
        if _sha256(paths[file]) != known_by.get(file):
            raise UserError(f"{paths[file]} is damaged, or of another model than {CONFIG} beside it; {REMEDY}")
    tensors, _ = load_checkpoint(paths[WEIGHTS], REMEDY)
    tokenizer = load_tokenizer(str(paths[TOKENIZER]))
    settings = settings_from_json(config["model"], paths[CONFIG], REMEDY)
    try:
        lengths = {int(length): int(count) for length, count in config["length_distribution"].items()}
        labels = {label: int(count) for label, count in config["labels"].items()}
        if not lengths or min(*lengths, *lengths.values(), *labels.values()) < 1:
            raise ValueError("its lengths or their counts are not at least 1")
        if labels.keys() != tokenizer.labels.keys():
            raise ValueError("its labels are not its tokenizer's")
        if tokenizer.vocabulary_size > settings.vocabulary_size:
            raise ValueError("its tokenizer has more tokens than its model")
        if not isinstance(config["data"].get("name"), str) or cleaning(config) not in CLEANERS:
            raise ValueError("it does not name its data, or a cleaning that is known here")
        model = build(settings)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:  # no sizes, or such as no memory has
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{paths[CONFIG]} describes no model that can be built here ({reason}); {REMEDY}") from None
    load_weights(model, tensors, paths[WEIGHTS])
    keep_freed_memory()
    device = default_device()
    files, data = ExperimentFiles(paths[CONFIG].parent), SharedData(tokenizer, lengths, {"labels": labels})
    return Experiment(files, config, model.to(device).eval(), data, device), config["figures"]


def _files(name: str | os.PathLike) -> dict[str, Path]:
    """The files of a folder, or of a model on the hub, fetched."""
    name, wanted = os.fspath(name), (CONFIG, WEIGHTS, TOKENIZER)
    if os.path.isdir(name):
        paths = {file: Path(name) / file for file in wanted}
        if missing := [file for file in wanted if not paths[file].is_file()]:
            trained = (
                "load an experiment with load_experiment" if (Path(name) / "best.safetensors").exists() else REMEDY
            )
            raise UserError(f"{name} is no shared model (it has no {missing[0]}); {trained}")
        return paths
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*/[A-Za-z0-9_][A-Za-z0-9_.\-]*", name) or os.path.exists(name):
        raise UserError(
            f"{name[:200]} is neither a folder nor a model's name on the Hugging Face hub, someone/something"
        )
    try:
        from huggingface_hub import hf_hub_download, logging

        logging.set_verbosity_error()  # a line for every retry; the one that counts is ours
        return {file: Path(hf_hub_download(name, file)) for file in wanted}
    except Exception as error:  # of the network, of rights, of a name: all mean that it did not come
        raise UserError(
            f"{name} is no folder here, and the Hugging Face hub did not deliver it ({type(error).__name__}); check "
            "the name and the connection"
        ) from None


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from None
