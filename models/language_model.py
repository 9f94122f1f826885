"""`LM`: a decoder-only causal Transformer language model, the judge of samples."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.layered_decoder import LayeredDecoder
from models.layers import CausalLayer
from models.loss import TokenLoss
from models.packing import Packing
from models.settings import LanguageModelSettings
from models.text_model import AS_TRAINED, Noise, TextModel, UnsupportedError


class WithoutLatent(TextModel[LanguageModelSettings]):
    """A text model that predicts every token from the earlier tokens alone; a subclass makes the networks."""

    def forward(self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor) -> tuple[None, TokenLoss]:
        """Score texts; see `TextModel.forward`. The encoding is None."""
        return None, self.score(target_input, None, source, Packing.of(key_padding_mask))

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> None:
        """Return None: generation draws the tokens alone.

        Raises:
            UnsupportedError: noise is given.
        """
        if noise != AS_TRAINED:
            raise UnsupportedError(f"{self.settings.name} has no latent: its temperature and kappa mean nothing")


class LanguageModel(WithoutLatent, LayeredDecoder[LanguageModelSettings]):
    """Causal language model: it predicts every token from the earlier tokens alone, and has no latent.

    Args:
        settings: sizes.
    """

    _no_split_modules: ClassVar = ["CausalLayer"]

    def __init__(self, settings: LanguageModelSettings) -> None:
        LayeredDecoder.__init__(self, settings)  # pyright: ignore[reportUnknownMemberType] a generic base
        dim, heads, dropout = settings.dim_h, settings.num_heads, settings.dropout
        self.decoder = nn.ModuleList(CausalLayer(dim, heads, dropout) for _ in range(settings.num_layers))
        self.make_output()
