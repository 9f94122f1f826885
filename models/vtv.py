"""`VTV`: the variational Transformer with a vector for every token."""

from torch import Tensor

from models.settings import VTVSettings
from models.variational import Variational, VariationalTransformer


class EveryVector(Variational[VTVSettings]):
    """Variational autoencoder that keeps every vector of the encoder's output."""

    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Keep all N vectors."""
        return hidden, key_padding_mask

    def count_kept(self, lengths: Tensor) -> Tensor:
        """Return one vector for each token."""
        return lengths


class VariationalTransformerVectors(EveryVector, VariationalTransformer[VTVSettings]):
    """Variational Transformer that keeps every vector."""
