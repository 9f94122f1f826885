"""Models with random weights, and texts for them."""

from typing import Any

import torch

from models import MODELS, build
from models.text_model import TextModel

VOCABULARY, START, END = 6, 2, 3
AUTOENCODERS = [name for name, settings in MODELS.items() if settings.sees_target]
# Models with Gaussians: their settings have a mean of the prior.
VARIATIONAL = [name for name, settings in MODELS.items() if hasattr(settings, "prior_mu")]


def model(name: str, **settings: Any) -> TextModel:
    """A small model in evaluation mode whose logits differ clearly."""
    built = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16, num_heads=2, num_layers=2, **settings))
    torch.nn.init.normal_(built.embedding.weight, std=0.5)
    torch.nn.init.normal_(built.output.weight, std=0.5)
    return built.eval()


def texts(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random texts of these lengths: token ids and padding mask."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return torch.randint(4, VOCABULARY, mask.shape).masked_fill(mask, 0), mask
