"""A pretrained causal language model of transformers as the decoder of a text model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from models.latent import Latent, each_draw
from models.layers import DecoderState
from models.loss import averaged_logits
from models.packing import Packing
from models.pretrained_base import PretrainedModel, open_base
from models.text_model import Settings, UnsupportedError

HIDDEN = -1e4  # added to the attention score of a position that is not seen; also finite in bfloat16
SCALED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")  # the loss computes plain logits


@dataclass
class PromptState(DecoderState):
    """State of a pretrained decoder between two generated tokens.

    Args:
        cache: keys and values of all layers, of the prompt and the earlier positions.
        bias: [B, P], added to the attention scores of the prompt's positions; None without a prompt.
        following: [B], int, position of the next token.
    """

    cache: Any
    bias: Tensor | None
    following: Tensor

    def select(self, rows: Tensor) -> "PromptState":
        """Select the state of some of the B texts; the cache is changed in place."""
        if self.cache.get_seq_length():
            self.cache.batch_select_indices(rows)
        return PromptState(self.cache, None if self.bias is None else self.bias[rows], self.following[rows])

    def select_past(self, rows: Tensor) -> "PromptState":
        """Replace the past of each text by the past of text `rows[b]`, which has the same latent."""
        return self.select(rows)


@dataclass(frozen=True)
class Prompt:
    """Vectors that a pretrained decoder reads before a text.

    Args:
        vectors: [B, P, D], inputs of the first layer.
        bias: [B, P], added to the attention scores of each position; `HIDDEN` at padding.
        positions: [B, P], int.
        following: [B], int, position of the first token of the text.
    """

    vectors: Tensor
    bias: Tensor
    positions: Tensor
    following: Tensor


class PretrainedDecoder(PretrainedModel[Settings]):
    """Text model whose decoder is a pretrained causal language model, with adapters or trained whole.

    Texts begin at the decoder's first token; a subclass gives the prompt before it.

    Args:
        settings: settings with `pretrained`; `dim_h` is the width of the pretrained model.
        folder: folder of the pretrained model.
    """

    def load(self, folder: Path) -> tuple[Any, Any]:
        """Load the pretrained model; see `PretrainedModel.load`."""
        from transformers import AutoModelForCausalLM

        loaded = open_base(AutoModelForCausalLM, folder, self.settings)
        for name in SCALED_LOGITS:
            if getattr(loaded.config, name, None) not in (None, 1.0):
                raise UnsupportedError(f"{loaded.config.model_type} has {name}, which this project does not compute")
        backbone, head = loaded.base_model, loaded.get_output_embeddings()
        tied = head.weight is backbone.get_input_embeddings().weight
        if not tied and head.bias is not None:
            raise UnsupportedError(
                f"{loaded.config.model_type} has a bias of its logits, which this project does not compute"
            )
        return backbone, None if tied else head

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids: […] to […, D]."""
        found = F.embedding(tokens.clamp_max(self.rows - 1), self.embeddings)
        if self.more is None:
            return found
        labels = F.embedding((tokens - self.rows).clamp_min(0), self.more)
        return torch.where((tokens >= self.rows).unsqueeze(-1), labels, found)

    def prompt(self, latent: Latent | None) -> Prompt | None:
        """Return what the decoder reads before a text; None for nothing.

        Args:
            latent: latents of B texts; None for a model without one.
        """
        return None

    def first_vectors(self, tokens: Tensor) -> Tensor:
        """Embed the decoder's first token: [B] to [B, D]."""
        return self.embed(tokens)

    def decode(self, target_input: Tensor, latent: Latent | None, packing: Packing | None = None) -> Tensor:
        """Compute the decoder's vectors at all positions at once; see `TextModel.decode`."""
        hidden = self._run(**self.inputs(target_input, latent))[:, -target_input.shape[1] :]
        return hidden if packing is None else packing.pack(hidden)

    def inputs(self, target_input: Tensor, latent: Latent | None) -> dict[str, Any]:
        """Return the arguments of the pretrained layers for whole texts: vectors, positions and mask.

        Args:
            target_input: [B, T], token ids of the decoder's input.
            latent: latents of B texts; None for a model without one.
        """
        text = torch.cat([self.first_vectors(target_input[:, 0]).unsqueeze(1), self.embed(target_input[:, 1:])], dim=1)
        if self.training and self.settings.word_dropout:
            dropped = torch.rand(target_input.shape, device=text.device) < self.settings.word_dropout
            text = text.masked_fill(dropped.unsqueeze(-1), 0.0)
        steps = torch.arange(text.shape[1], device=text.device)
        prompt = self.prompt(latent)
        if prompt is None:
            return {"inputs_embeds": text, "position_ids": steps.expand(text.shape[:2]), "attention_mask": None}
        return {
            "inputs_embeds": torch.cat([prompt.vectors, text], dim=1),
            "position_ids": torch.cat([prompt.positions, prompt.following.unsqueeze(1) + steps], dim=1),
            "attention_mask": _causal(prompt, text.shape[1]),
        }

    def start(self, latent: Latent | None) -> list[DecoderState]:
        """Return the decoder's state before the first token; see `TextModel.start`."""
        from transformers import DynamicCache

        states: list[DecoderState] = []
        for own in each_draw(latent):
            cache, prompt = cast(Any, DynamicCache)(), self.prompt(own)
            if prompt is None:
                states.append(PromptState(cache, None, torch.zeros((), dtype=torch.long, device=self.device)))
                continue
            self._run(prompt.vectors, prompt.positions, _causal(prompt, 0), cache)
            states.append(PromptState(cache, prompt.bias, prompt.following))
        return states

    def step(self, tokens: Tensor, position: int, state: list[DecoderState]) -> tuple[Tensor, list[DecoderState]]:
        """Decode one position; see `TextModel.step`. Special tokens other than the end token never come out."""
        vectors = (self.first_vectors(tokens) if position == 0 else self.embed(tokens)).unsqueeze(1)
        weight, bias = self.head
        states, logits = list[DecoderState](), list[Tensor]()
        for before in cast(list[PromptState], state):
            following, mask = before.following.expand(len(tokens)), None
            if before.bias is not None:
                mask = F.pad(before.bias, (0, position + 1))[:, None, None]
            hidden = self._run(vectors, following.unsqueeze(1), mask, before.cache)
            states.append(PromptState(before.cache, before.bias, following + 1))
            # The vocabulary as rows, as in the loss: faster on a CPU for the few texts of a batch.
            logits.append((weight @ hidden.squeeze(1).t()).add_(bias.unsqueeze(1)))  # [V, B]
        return averaged_logits(logits).index_fill(0, self.unspoken, -torch.inf).t(), states

    def _run(
        self, inputs_embeds: Tensor, position_ids: Tensor, attention_mask: Tensor | None, cache: Any = None
    ) -> Tensor:
        """Apply the pretrained layers: [B, T, D] to [B, T, D]."""
        self.recompute_layers()
        given = {"cache": cache, "use_cache": cache is not None}
        output = self.backbone(
            inputs_embeds=inputs_embeds, position_ids=position_ids, attention_mask=attention_mask, **given
        )
        return cast(Tensor, output.last_hidden_state)


def _causal(prompt: Prompt, text: int) -> Tensor:
    """Return the attention mask [B, 1, T, T] of a prompt and `text` tokens after it.

    A position sees all earlier and equal positions. Vectors of the prompt that share a position see each other,
    whatever their order.
    """
    steps = torch.arange(text, device=prompt.bias.device)
    positions = torch.cat([prompt.positions, prompt.following.unsqueeze(1) + steps], dim=1)
    later = positions.unsqueeze(1) > positions.unsqueeze(2)  # [B, T, T], the last dimension is of the keys
    return torch.where(later, HIDDEN, F.pad(prompt.bias, (0, text)).unsqueeze(1)).unsqueeze(1)
