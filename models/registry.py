"""Registry of the models: their settings by name, and `build`."""

import importlib
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


def build(settings: ModelSettings) -> "TextModel[ModelSettings]":
    """Build the model of these settings, with fresh weights from torch's global random generator."""
    module, name = settings.implementation
    return getattr(importlib.import_module(module), name)(settings)
