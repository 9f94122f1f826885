"""`T`: the vanilla Transformer autoencoder (Vaswani et al. 2017)."""

from torch import Tensor

from models.autoencoder import Encoding, TextAutoencoder
from models.settings import TransformerSettings
from models.vanilla_attention import Memory, MultiheadAttention, interpolate


class TransformerAutoencoder(TextAutoencoder):
    """The memory is the encoder's output: every vector kept, nothing regularised, no prior."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__(settings, lambda: MultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout))

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """The encoder's output as it is."""
        vectors = (~key_padding_mask).sum(dim=-1)
        return Encoding(Memory(hidden, key_padding_mask), vectors_kept=vectors, vectors=vectors)

    def interpolate(self, a: Memory, b: Memory, tau: float) -> Memory:
        """By position."""
        return interpolate(a, b, tau)
