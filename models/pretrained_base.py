"""A pretrained causal language model of transformers as the decoder of a text model.

This module alone of the package imports transformers and peft, which are optional.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.latent import Latent, each_draw
from models.layers import DecoderState
from models.loss import averaged_logits
from models.packing import Packing
from models.settings import ModelSettings
from models.text_model import Settings, TextModel, UnsupportedError

HIDDEN = -1e4  # added to the attention score of a position that is not seen; also finite in bfloat16
# Linear layers with adapters, under the names of Llama, Qwen and GPT-2: attention except keys, and the last of the
# feed-forward layers.
ADAPTED = ("q_proj", "v_proj", "o_proj", "down_proj", "c_attn", "c_proj")
DROPOUTS = ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout")
SCALED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")  # the loss computes plain logits


@dataclass(frozen=True)
class BaseSizes:
    """Sizes of a pretrained model.

    Args:
        dim: D, width of its vectors.
        heads: attention heads of a layer.
        rows: tokens that its embedding has room for.
    """

    dim: int
    heads: int
    rows: int


def sizes(folder: Path) -> BaseSizes:
    """Read the sizes of the pretrained model in a folder."""
    from transformers import AutoConfig

    config = cast(Any, AutoConfig).from_pretrained(folder, local_files_only=True)
    return BaseSizes(config.hidden_size, config.num_attention_heads, config.vocab_size)


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


class PretrainedDecoder(TextModel[Settings]):
    """Text model whose decoder is a pretrained causal language model, with adapters or trained whole.

    The state dict leaves out pretrained weights that are not trained: settings name them with their hash. Texts begin
    at the decoder's first token; a subclass gives the prompt before it.

    Args:
        settings: settings with `pretrained`; `dim_h` is the width of the pretrained model.
        folder: folder of the pretrained model.
    """

    _no_split_modules: ClassVar = list[str]()

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType] not annotated
            self.backbone, head = _loaded(folder, settings)
        self.separate_head = head
        self.rows = int(self.embeddings.shape[0])
        more = settings.vocabulary_size - self.rows  # tokens of labels, which the pretrained model does not know
        self.more: nn.Parameter | None = None
        if more > 0:
            self.more = nn.Parameter(self.embeddings.detach().mean(dim=0).repeat(more, 1))
        whole = settings.train == "all"
        for parameter in self._pretrained_parameters():
            parameter.requires_grad_(whole)
        if settings.train == "lora":
            _add_adapters(self.backbone, settings.lora_rank)
        self.register_buffer("no_bias", torch.zeros(max(self.rows, settings.vocabulary_size)), persistent=False)
        self.register_buffer("unspoken", torch.tensor(_unspoken(folder, self.rows), dtype=torch.long), persistent=False)
        hooks = cast(Any, self)  # torch annotates no hook
        hooks.register_state_dict_post_hook(_leave_frozen_out)
        hooks.register_load_state_dict_pre_hook(_put_frozen_in)

    no_bias: Tensor
    unspoken: Tensor

    @property
    def embeddings(self) -> Tensor:
        """[rows, D], embeddings of the pretrained model's tokens."""
        return cast(Tensor, self.backbone.get_input_embeddings().weight)

    def vocabulary(self) -> Tensor:
        """Embeddings of all tokens, those of labels included: [V, D]."""
        return self.embeddings if self.more is None else torch.cat([self.embeddings, self.more])

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight [V, D] and bias [V] of the projection to the vocabulary."""
        if self.separate_head is None:
            return self.vocabulary(), self.no_bias
        weight = self.separate_head.weight
        return weight if self.more is None else torch.cat([weight, self.more]), self.no_bias

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
        if self.recompute and self.training and not self.backbone.is_activation_checkpointing:
            self.backbone.activation_checkpointing_enable({"use_reentrant": False})
        given = {"cache": cache, "use_cache": cache is not None}
        output = self.backbone(
            inputs_embeds=inputs_embeds, position_ids=position_ids, attention_mask=attention_mask, **given
        )
        return cast(Tensor, output.last_hidden_state)

    def _pretrained_parameters(self) -> list[nn.Parameter]:
        head = [] if self.separate_head is None else list(self.separate_head.parameters())
        return [*self.backbone.parameters(), *head]

    def stored_elsewhere(self) -> set[str]:
        """Names in the state dict of the pretrained weights that are not trained."""
        parts = ("backbone.", "separate_head.")
        return {name for name, value in self.named_parameters() if name.startswith(parts) and not value.requires_grad}


def _causal(prompt: Prompt, text: int) -> Tensor:
    """Return the attention mask [B, 1, T, T] of a prompt and `text` tokens after it.

    A position sees all earlier and equal positions. Vectors of the prompt that share a position see each other,
    whatever their order.
    """
    steps = torch.arange(text, device=prompt.bias.device)
    positions = torch.cat([prompt.positions, prompt.following.unsqueeze(1) + steps], dim=1)
    later = positions.unsqueeze(1) > positions.unsqueeze(2)  # [B, T, T], the last dimension is of the keys
    return torch.where(later, HIDDEN, F.pad(prompt.bias, (0, text)).unsqueeze(1)).unsqueeze(1)


def _loaded(folder: Path, settings: ModelSettings) -> tuple[Any, Any]:
    """Load a pretrained model: its layers, and its projection to the vocabulary, None if that is its embedding."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading takes a second
    given = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True, "attn_implementation": "sdpa"}
    loaded = cast(Any, AutoModelForCausalLM).from_pretrained(folder, **given)
    for name in SCALED_LOGITS:
        if getattr(loaded.config, name, None) not in (None, 1.0):
            raise UnsupportedError(f"{loaded.config.model_type} has {name}, which this project does not compute")
    backbone, head = loaded.base_model, loaded.get_output_embeddings()
    tied = head.weight is backbone.get_input_embeddings().weight
    if not tied and head.bias is not None:
        raise UnsupportedError(
            f"{loaded.config.model_type} has a bias of its logits, which this project does not compute"
        )
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
        for name in DROPOUTS[:1]:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, settings.dropout)
    return backbone, None if tied else head


def _add_adapters(backbone: Any, rank: int) -> None:
    """Add low-rank adapters, which change nothing before they are trained."""
    from peft import LoraConfig, inject_adapter_in_model

    names = {name.rpartition(".")[2] for name, _ in backbone.named_modules()}
    chosen = [name for name in ADAPTED if name in names]
    if not chosen:
        raise UnsupportedError(f"{backbone.config.model_type} has none of the layers {', '.join(ADAPTED)} to adapt")
    turned = "c_attn" in names  # GPT-2's layers hold their weights as [in, out]
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=chosen, fan_in_fan_out=turned)
    inject_adapter_in_model(config, backbone)


def _unspoken(folder: Path, rows: int) -> list[int]:
    """Return the ids that no text contains: special tokens except the end token, and rows without a token."""
    tokenizer = tokenizer_of(folder)
    special = {*tokenizer.all_special_ids, *(n for n, token in tokenizer.added_tokens_decoder.items() if token.special)}
    return sorted((special | set(range(len(tokenizer), rows))) - {tokenizer.eos_token_id})


def tokenizer_of(folder: Path) -> Any:
    """Load the tokenizer of a pretrained model."""
    from transformers import AutoTokenizer

    return cast(Any, AutoTokenizer).from_pretrained(folder, local_files_only=True)


def _leave_frozen_out(module: nn.Module, tensors: dict[str, Any], prefix: str, _: Any) -> None:
    assert isinstance(module, PretrainedDecoder)
    for name in cast(PretrainedDecoder[ModelSettings], module).stored_elsewhere():
        tensors.pop(prefix + name, None)


def _put_frozen_in(module: nn.Module, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, PretrainedDecoder)
    known = cast(PretrainedDecoder[ModelSettings], module)
    own = dict(known.named_parameters())
    tensors.update({prefix + name: own[name].detach() for name in known.stored_elsewhere()})
