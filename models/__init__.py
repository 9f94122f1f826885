"""The models: Transformer autoencoders and a language model behind one interface and one registry.

    from models import MODELS, build
    model = build(MODELS["NVIB"](vocabulary_size=8000))      # fresh weights

`pipeline.load_experiment` loads a trained model. Nothing heavy is imported until a model is built, so that a script's
`--help` answers at once.
"""

from models.settings import MODELS, ModelSettings, NVAESettings, TransformerSettings, build

__all__ = ["MODELS", "ModelSettings", "NVAESettings", "TransformerSettings", "build"]
