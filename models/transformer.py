"""`T`: the vanilla Transformer autoencoder (Vaswani et al. 2017)."""

from torch import Tensor

from models.autoencoder import TextAutoencoder
from models.latent import Latent, Memory, interpolate_by_position
from models.layered_autoencoder import LayeredAutoencoder
from models.settings import TransformerSettings
from models.text_model import Encoding
from models.vanilla_attention import MultiheadAttention


class PlainMemory(TextAutoencoder[TransformerSettings]):
    """Autoencoder whose memory is the encoder's output: no vector is dropped, and there is no prior."""

    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Return the encoder's output as the memory."""
        vectors = (~key_padding_mask).sum(dim=-1)
        return Encoding(Memory(hidden, key_padding_mask), vectors_kept=vectors, vectors=vectors)

    def interpolate(self, a: Latent, b: Latent, tau: float) -> Memory:
        """Interpolate by position; see `TextModel.interpolate`."""
        return interpolate_by_position(a, b, tau)


class TransformerAutoencoder(PlainMemory, LayeredAutoencoder[TransformerSettings]):
    """Transformer autoencoder from scratch.

    Args:
        settings: sizes.
    """

    def __init__(self, settings: TransformerSettings) -> None:
        LayeredAutoencoder.__init__(  # pyright: ignore[reportUnknownMemberType] the base's parameters are generic
            self, settings, lambda: MultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout)
        )
