"""`NVIB`: the nonparametric variational autoencoder (Henderson & Fehr, ICLR 2023)."""

import nvib
from models.layered_autoencoder import LayeredAutoencoder
from models.nonparametric import Nonparametric
from models.settings import NVAESettings


class NVAE(Nonparametric, LayeredAutoencoder[NVAESettings]):
    """Transformer autoencoder with an NVIB layer after the encoder and denoising attention in every decoder layer.

    Args:
        settings: sizes, prior, bottleneck and objective.
    """

    def __init__(self, settings: NVAESettings) -> None:
        LayeredAutoencoder.__init__(  # pyright: ignore[reportUnknownMemberType] the base's parameters are generic
            self,
            settings,
            lambda: nvib.DenoisingMultiheadAttention(settings.dim_h, settings.num_heads, settings.dropout, bias=True),
        )
        self.add_bottleneck()
