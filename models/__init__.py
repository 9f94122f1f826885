"""The models: Transformer autoencoders and a language model with one interface and one registry.

    from models import MODELS, build
    model = build(MODELS["NVIB"](vocabulary_size=8000))  # fresh weights

`pipeline.load_experiment` loads a trained model. This package imports torch only when a model is built, so that
`--help` answers at once.
"""

from models.registry import MODELS, build
from models.settings import ModelSettings, NVAESettings, TransformerSettings

__all__ = ["MODELS", "ModelSettings", "NVAESettings", "TransformerSettings", "build"]
