"""Registry of the models: their settings by name, and `build`."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from models.settings import (
    LanguageModelSettings,
    ModelSettings,
    NVAESettings,
    TransformerSettings,
    VTPSettings,
    VTSSettings,
    VTVSettings,
)

if TYPE_CHECKING:
    from models.text_model import TextModel

MODELS: dict[str, type[ModelSettings]] = {
    settings.name: settings
    for settings in (TransformerSettings, VTVSettings, VTPSettings, VTSSettings, NVAESettings, LanguageModelSettings)
}


def build(settings: ModelSettings, base: Path | None = None) -> "TextModel[ModelSettings]":
    """Build the model of these settings, with fresh weights from torch's global random generator.

    Args:
        settings: settings of a model.
        base: folder of the pretrained model that `settings.pretrained` names; None without one.

    Raises:
        ValueError: the settings name a pretrained model and there is no folder.
    """
    if settings.pretrained is None:
        module, name = settings.implementation
        return getattr(importlib.import_module(module), name)(settings)
    if base is None:
        raise ValueError(f"the model is built around {settings.pretrained}, whose folder is needed")
    module, name = settings.around[kind_of(base)]
    return getattr(importlib.import_module(module), name)(settings, base)


def kind_of(base: Path) -> str:
    """Return the kind of a pretrained model by its `config.json`: causal or encoder-decoder."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return "encoder-decoder" if config.get("is_encoder_decoder") else "causal"
