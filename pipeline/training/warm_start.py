"""Start training from the weights of another experiment, wherever both models have the same parameter."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models import ModelSettings
from models.autoencoder import TextAutoencoder
from models.packing import Packing
from models.text_model import UNCHANGED, Prices, TextModel
from pipeline.data.batches import Batch, collate
from pipeline.data.dataset import PreparedData
from pipeline.experiments.config import read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.weights import load_checkpoint
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record
from pipeline.training.checkpoints import PROGRESS

TRANSFORMER = "T"
MEASURED = 512  # sentences on which the norm of the encoder's vectors is measured
# Parameters of one name are interchangeable if these agree. What is not in an older experiment had its default.
SHAPES = ("dim_h", "num_heads", "num_layers", "train", "lora_rank")


def start_from(model: TextModel, source: ExperimentFiles, own: ExperimentFiles, data: PreparedData) -> list[str]:
    """Copy the best weights of an experiment into a model, wherever both have the parameter.

    From a vanilla Transformer, the bottleneck passes the encoder's vectors through.

    Args:
        model: model with fresh weights.
        source: files of the experiment to copy from.
        own: files of the experiment that starts.
        data: data that `model` will be trained on. The text may differ, the tokenizer may not.

    Returns:
        Names of the parameters that the source does not have, which stay fresh.

    Raises:
        UserError: the source does not exist, has no weights, or has other sizes or another tokenizer.
    """
    name = source.folder.name
    if source == own:
        raise UserError(f"--START_FROM {name}: it is the experiment itself; choose another --EXPERIMENT_NAME")
    config = read_config(source)
    if config["data"].get("tokenizer_fingerprint") != data.identity["tokenizer_fingerprint"]:
        raise UserError(
            f"--START_FROM {name}: its data {config['data']['name']!r} has another tokenizer; prepare "
            "this one's with --TOKENIZER and the folder of that one's"
        )
    if differ := _differing(config["model"], model.settings):
        raise UserError(f"--START_FROM {name}: {differ}; give the same")
    if not source.best.exists():
        raise UserError(f"--START_FROM {name}: it has not finished its first epoch; run its train.py again")
    found, _ = load_checkpoint(source.best, "train that experiment anew")
    fresh: dict[str, Tensor] = model.state_dict()
    taken = {key: found[key] for key in fresh if key in found}
    try:
        model.load_state_dict(fresh | taken)
    except RuntimeError as error:
        raise UserError(f"--START_FROM {name}: {' '.join(str(error).split())[:200]}") from None
    if config["model"].get("name") == TRANSFORMER and isinstance(model, TextAutoencoder):
        model.pass_through(_squared_norm(model, data))
        start_at(model, data)
    return [key for key in fresh if key not in taken]


def start_at(model: TextModel, data: PreparedData) -> None:
    """Let a model take over statistics of its encoder's vectors of the first training sentences."""
    batch = _first_sentences(data)
    model.start_at(batch.source, batch.key_padding_mask)


def inherited_prices(source: ExperimentFiles) -> Prices:
    """Return the prices with which a controlled run ended that another one starts from; otherwise the usual ones."""
    remedy = "train that experiment anew"
    if source.latest_shards.exists():
        progress = read_record(source.latest_shards / PROGRESS, remedy)
    elif source.latest.exists():
        progress = load_checkpoint(source.latest, remedy)[1]
    elif source.best.exists():  # a point of a path has no other checkpoint
        progress = load_checkpoint(source.best, remedy)[1]
    else:
        return UNCHANGED
    state = progress.get("control") or {}
    return Prices(state.get("gaussian", 1.0), state.get("dirichlet", 1.0))


def like_source(source: ExperimentFiles, alpha_activation: str) -> dict[str, Any]:
    """Return the settings that an NVIB takes over from the experiment that it starts from, unless flags say otherwise.

    A start from a vanilla Transformer has the identity bottleneck, so that the outputs before the first step are the
    Transformer's. A start from an NVIB keeps what its weights mean.

    Args:
        source: files of the experiment to start from.
        alpha_activation: activation of the pseudo-counts, if the source does not decide it.
    """
    model = read_config(source)["model"] if source.config.exists() else {}
    if model.get("name") == TRANSFORMER:
        return {"bottleneck": "identity"} if alpha_activation == "exp" else {}
    return {name: model[name] for name in ("bottleneck", "alpha_activation") if name in model}


@torch.no_grad()
def _squared_norm(model: TextAutoencoder[ModelSettings], data: PreparedData) -> float:
    """Return the mean squared norm of the encoder's vectors of the first training sentences."""
    batch = _first_sentences(data)
    model.eval()
    hidden = model.encode_tokens(batch.source, Packing.of(batch.key_padding_mask))
    model.train()
    return float(hidden.square().sum(dim=-1)[~batch.key_padding_mask].mean())


def _first_sentences(data: PreparedData) -> Batch:
    return collate(data.splits["train"][:MEASURED]["input_ids"], data.tokenizer.pad_id)


def _differing(theirs: Mapping[str, Any], own: ModelSettings) -> str:
    """Describe the sizes in which two models differ, or their pretrained models. Empty if they agree."""
    if theirs.get("base_sha256", "") != own.base_sha256:
        return "its pretrained model (--PRETRAINED) is another, or it has none, or this one has none"
    differ = [(name.upper(), theirs.get(name, getattr(own, name)), getattr(own, name)) for name in SHAPES]
    return ", ".join(f"it has {name} = {a}, not {b}" for name, a, b in differ if a != b)
