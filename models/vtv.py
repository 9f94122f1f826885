"""`VTV`: the variational Transformer with a vector for every token."""

from torch import Tensor

from models.variational import VariationalTransformer


class VariationalTransformerVectors(VariationalTransformer):
    """Every vector of the encoder's output is kept."""

    def keep(self, hidden: Tensor, key_padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """All."""
        return hidden, key_padding_mask

    def count_kept(self, lengths: Tensor) -> Tensor:
        """As many as tokens."""
        return lengths
