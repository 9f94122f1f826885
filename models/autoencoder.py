"""Autoencoders: text to latent, latent to text."""

from abc import abstractmethod

from torch import Tensor

from models.loss import TokenLoss
from models.packing import Packing
from models.text_model import Encoding, Settings, TextModel


class TextAutoencoder(TextModel[Settings]):
    """An encoder, a latent, and a decoder that reads the latent.

    The encoder's input is `x_1 … x_{n-1} [SEP]`, the decoder's input `[CLS] x_1 … x_{n-1}`, and the target the
    encoder's input. One subclass implements the networks, `encode_tokens` and the decoder's methods; another one
    implements the latent, `latent_from`. A model inherits from one of each.

    Args:
        settings: sizes and the model's own settings.
    """

    def forward(self, source: Tensor, key_padding_mask: Tensor, target_input: Tensor) -> tuple[Encoding, TokenLoss]:
        """Encode, decode and score; see `TextModel.forward`."""
        packing = Packing.of(key_padding_mask)
        encoding = self.read(self.latent_from(self.encode_tokens(source, packing), key_padding_mask), source)
        return encoding, self.score(target_input, encoding.latent, source, packing)

    def encode(self, source: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Encode token ids [B, N]; see `TextModel.encode`."""
        hidden = self.encode_tokens(source, Packing.of(key_padding_mask))
        return self.read(self.latent_from(hidden, key_padding_mask), source)

    def read(self, encoding: Encoding, source: Tensor) -> Encoding:
        """Return the encoding with the latent that the decoder reads; a model without readings returns it unchanged.

        Args:
            encoding: from `latent_from`.
            source: [B, N], token ids of the texts.
        """
        return encoding

    @abstractmethod
    def encode_tokens(self, source: Tensor, packing: Packing) -> Tensor:
        """Apply the encoder: token ids [B, N] to vectors [B, N, D], zeros at padding."""

    @abstractmethod
    def latent_from(self, hidden: Tensor, key_padding_mask: Tensor) -> Encoding:
        """Compute the latent from the encoder's output.

        Args:
            hidden: [B, N, D], zeros at padding.
            key_padding_mask: [B, N], bool, True at padding.
        """
