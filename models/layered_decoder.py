"""Decoder of the models from scratch: an embedding, a stack of layers and a projection to the vocabulary."""

from collections.abc import Callable, Iterable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from models.latent import Latent, each_draw
from models.layers import DecoderState, Embedding, LayerState, output_projection
from models.loss import averaged_logits
from models.packing import Packing
from models.text_model import Settings, TextModel


class Layer(Protocol):
    """Decoder layer, as `LayeredDecoder` calls it; see `DecoderLayer` and `CausalLayer`."""

    def __call__(self, hidden: Tensor, latent: Latent | None, packing: Packing | None = None, /) -> Tensor: ...

    def start(self, latent: Latent | None, /) -> LayerState:
        """Return the state before the first position of each text."""
        ...

    def step(self, hidden: Tensor, state: LayerState, /) -> tuple[Tensor, LayerState]:
        """Apply the layer to the next position [B, 1, D], and return the new state."""
        ...


class LayeredDecoder(TextModel[Settings]):
    """A text model whose decoder is a stack of layers of this package.

    A subclass makes `decoder` and lists the classes of its layers, FSDP's units.

    Args:
        settings: sizes and the model's own settings.
    """

    decoder: nn.ModuleList
    output: nn.Linear

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.embedding = Embedding(settings.vocabulary_size, settings.dim_h, settings.dropout)

    def make_output(self) -> None:
        """Make the projection to the vocabulary; it comes last, so that the layers' weights are drawn before it."""
        self.output = output_projection(self.settings.dim_h, self.settings.vocabulary_size)

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight [V, D] and bias [V] of the projection to the vocabulary."""
        return self.output.weight, self.output.bias

    def decode(self, target_input: Tensor, latent: Latent | None, packing: Packing | None = None) -> Tensor:
        """Compute the decoder's vectors at all positions at once; see `TextModel.decode`."""
        dropped = None
        if self.training and self.settings.word_dropout:
            dropped = torch.rand(target_input.shape, device=target_input.device) < self.settings.word_dropout
        hidden: Tensor = self.embedding(target_input, hidden_words=dropped, packing=packing)
        for layer in self._layers():
            hidden = self.through(layer, hidden, latent, packing)
        return hidden

    def through(self, layer: Callable[..., Tensor], *inputs: Tensor | Latent | Packing | None) -> Tensor:
        """Apply a layer; with `recompute`, the backward pass recomputes it, and only the inputs are stored."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint.checkpoint(layer, *inputs, use_reentrant=False)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
        return layer(*inputs)

    def start(self, latent: Latent | None) -> list[DecoderState]:
        """Return the decoder's state before the first token of B texts; the latent is None for a model without one."""
        return [layer.start(own) for own in each_draw(latent) for layer in self._layers()]

    def step(self, tokens: Tensor, position: int, state: list[DecoderState]) -> tuple[Tensor, list[DecoderState]]:
        """Decode one position; see `TextModel.step`."""
        embedded: Tensor = self.embedding(tokens.unsqueeze(1), start=position)
        depth, states, logits = len(self.decoder), list[DecoderState](), list[Tensor]()
        for first in range(0, len(state), depth):  # the layers' states of one draw after the other
            hidden = embedded
            for layer, before in zip(self._layers(), state[first : first + depth], strict=True):
                hidden, after = layer.step(hidden, cast(LayerState, before))
                states.append(after)
            # The vocabulary as rows, as in the loss: twice as fast on a CPU for the few texts of a batch.
            logits.append((self.output.weight @ hidden.squeeze(1).t()).add_(self.output.bias.unsqueeze(1)))  # [V, B]
        return averaged_logits(logits).t(), states

    def _layers(self) -> Iterable[Layer]:
        # torch types the items of a ModuleList as modules; those of a decoder take the latents of their model.
        return cast(Iterable[Layer], self.decoder)
