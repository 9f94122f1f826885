"""Models around pretrained ones: the base's folder, sizes and hash, and defaults that differ from scratch."""

import dataclasses
from typing import Any

from models import ModelSettings, build
from models.text_model import TextModel, UnsupportedError
from pipeline.data.base_models import base_folder, base_sha256, require
from pipeline.data.dataset import PreparedData, check_tokenizer
from pipeline.runtime.errors import UserError

# Settings that are not given, of a model around a pretrained one.
MODEL = {"dropout": 0.0, "kl_weighting": "component", "delta": 0.5, "vector_dropout": 0.0}
BY_KIND = {
    # Without means in training, a decoder that tells draws from noise may take the means for noise.
    "causal": {"num_layers": 2, "mean_texts": 0.2},
    # With all components, and pseudo-counts that grow with the norm, the outputs before the first step are the base's.
    "encoder-decoder": {"bottleneck": "identity", "alpha_threshold": 0.0},
}


def build_model(settings: ModelSettings) -> TextModel[ModelSettings]:
    """Build a model with fresh weights, around its pretrained model if it has one.

    Raises:
        UserError: the pretrained model is absent, is not the one that the settings name by its hash, or is of a kind
            that the model has no form for.
    """
    if settings.pretrained is None:
        return build(settings)
    require("peft")
    folder = base_folder(settings.pretrained)
    found = base_sha256(folder)
    if settings.base_sha256 and found != settings.base_sha256:
        raise UserError(
            f"{settings.pretrained} has other weights (SHA-256 {found[:12]}) than the model was trained around "
            f"({settings.base_sha256[:12]}); restore them, or train anew"
        )
    try:
        return build(settings, folder)
    except UnsupportedError as error:
        raise UserError(f"--PRETRAINED {settings.pretrained}: {error}") from None


def around(
    name: str, model: type[ModelSettings], given: dict[str, Any], data: PreparedData, data_name: str
) -> dict[str, Any]:
    """Complete the settings of a model around a pretrained one: its sizes and hash, and defaults.

    Args:
        name: name or folder of the pretrained model.
        model: settings of the model.
        given: settings that flags give.
        data: prepared data.
        data_name: their name.

    Raises:
        UserError: the pretrained model is absent, has another tokenizer than the data or another kind than the model
            takes, or a flag sets what it determines.
    """
    require("peft")
    folder = base_folder(name)
    from models.pretrained_base import sizes
    from models.registry import kind_of

    if (kind := kind_of(folder)) not in model.around:
        raise UserError(f"--MODEL {model.name} has no form around {name}, which is {kind}; take another model or base")
    try:
        found = sizes(folder)
    except UnsupportedError as error:
        raise UserError(f"--PRETRAINED {name}: {error}") from None
    determined: dict[str, Any] = {"dim_h": found.dim, "num_heads": found.heads}
    if kind == "encoder-decoder":
        determined["num_layers"] = found.layers
    for setting, value in determined.items():
        if given.get(setting, value) != value:  # the configuration of an experiment has the same
            raise UserError(f"--{setting.upper()} is determined by --PRETRAINED {name}, {value}; leave it out")
    check_tokenizer(data, data_name, name, folder)
    known = {field.name for field in dataclasses.fields(model)}
    usual = {setting: value for setting, value in {**MODEL, **BY_KIND[kind]}.items() if setting in known}
    if given.get("alpha_activation", "exp") != "exp":  # the identity has no other
        usual.pop("bottleneck", None)
    return {**usual, **given, **determined, "base_sha256": base_sha256(folder)}


def check_data_fit(model: TextModel[ModelSettings], data: PreparedData, data_name: str) -> None:
    """Check that a pretrained model has positions for every sentence of prepared data.

    Args:
        model: model around it; any other has positions for all.
        data: prepared data.
        data_name: their name.

    Raises:
        UserError: a sentence is too long.
    """
    if model.positions is None:
        return
    longest = max(max(split["length"], default=0) for split in data.splits.values())
    if problem := too_long(model, longest):
        raise UserError(
            f"a sentence of {data_name} is too long: {problem}; prepare the data with shorter sentences, or take "
            "another base"
        )


def too_long(model: TextModel[ModelSettings], length: int) -> str | None:
    """Say why a text is too long for the pretrained model in a model.

    Args:
        model: any model.
        length: tokens of the text, the end token included.

    Returns:
        The reason, for a message; None if the text fits.
    """
    needed = model.positions_of(length)
    if model.positions is None or needed <= model.positions:
        return None
    more = f", which take {needed:,} with the latent before them" if needed > length else ""
    return f"{model.settings.pretrained} has positions for {model.positions:,} tokens, and it has {length:,}{more}"
