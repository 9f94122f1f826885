"""Small models with fresh weights, and padded sentences, for the tests of the models."""

import torch

from models import MODELS, build
from models.text_model import TextModel

VOCABULARY, START, END = 40, 2, 3
AUTOENCODERS = [name for name, settings in MODELS.items() if settings.sees_target]


def model(name: str, **settings) -> TextModel:
    """Build a model with two layers and two heads of width 8."""
    built = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16, num_heads=2, num_layers=2, **settings))
    # With the small initial embeddings, all texts would look equal.
    torch.nn.init.normal_(built.embedding.weight, std=0.3)
    return built


def sentences(*lengths: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make sentences of these lengths: source, padding mask and target input, [B, N] each."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    source = torch.randint(5, VOCABULARY, mask.shape).masked_fill(mask, 0)
    source[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    target_input = torch.cat([torch.full((len(lengths), 1), START), source[:, :-1]], dim=1)
    return source, mask, target_input
