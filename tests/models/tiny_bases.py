"""Tiny pretrained models with random weights, in folders of Hugging Face's form, and models around them."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from models import MODELS, build
from models.pretrained_decoder import PretrainedDecoder
from models.registry import kind_of
from tests.data.base_tokenizers import CHAT, SMOLLM2, byte_level_bpe

FAMILIES = ("llama", "gpt2", "qwen2")
WIDTH, LAYERS, HEADS = 32, 2, 4
START, END, PAD = 1, 2, 2
FIRST = len(CHAT)  # the first id that a text can have
EMPTY = 6  # rows of the embedding that have no token
NEEDED = ("transformers", "peft")


def save_base(folder: Path, family: str = "llama", seed: int = 0, positions: int = 512) -> Path:
    """Save a causal model of a family, of a few thousand parameters, with its tokenizer.

    Args:
        folder: new or empty folder.
        family: one of `FAMILIES`. Llama's projection to the vocabulary is no copy of its embedding.
        seed: seed of the weights.
        positions: tokens of the longest text that it has positions for.
    """
    transformers: Any = pytest.importorskip("transformers", reason="the extra pretrained is not installed")
    pytest.importorskip("peft", reason="the extra pretrained is not installed")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(CHAT), **SMOLLM2)
    tokenizer.save_pretrained(folder)
    special = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    sizes = {"vocab_size": len(tokenizer) + EMPTY, "initializer_range": 0.3, **special}
    usual = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    usual |= {"num_key_value_heads": 2, "max_position_embeddings": positions}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "gpt2":
            config = transformers.GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=positions, **sizes)
            model = transformers.GPT2LMHeadModel(config)
        elif family == "qwen2":
            model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(tie_word_embeddings=True, **usual, **sizes))
        else:
            config = transformers.LlamaConfig(tie_word_embeddings=False, **usual, **sizes)
            model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    assert kind_of(folder) == "causal"
    return folder


@cache
def rows(folder: Path) -> int:
    """Rows of the embedding of the base in a folder."""
    from models.pretrained_base import sizes

    return sizes(folder).rows


def around(folder: Path, name: str = "NVIB", labels: int = 0, **settings: Any) -> PretrainedDecoder[Any]:
    """Build a model around the base in a folder, in evaluation mode.

    Args:
        folder: folder of the base.
        name: NVIB or LM.
        labels: tokens behind the rows of the embedding.
        settings: further settings.
    """
    usual: dict[str, Any] = {"num_layers": 1, "dropout": 0.0, "pretrained": str(folder)}
    sizes = {"vocabulary_size": rows(folder) + labels, "dim_h": WIDTH, "num_heads": HEADS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built: Any = build(MODELS[name](**sizes, **(usual | settings)), folder)
    return built.eval()


def disturbed(model: PretrainedDecoder[Any], scale: float = 0.1) -> PretrainedDecoder[Any]:
    """Move all weights that are trained, as training would, so that none is at its neutral start."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape)
    return model


def texts(folder: Path, *lengths: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make texts of these lengths: source, padding mask and target input, [B, N] each."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    source = torch.randint(FIRST, rows(folder) - EMPTY, mask.shape).masked_fill(mask, PAD)
    source[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return source, mask, torch.cat([torch.full((len(lengths), 1), START), source[:, :-1]], dim=1)


def stepped(model: PretrainedDecoder[Any], latent: Any, target_input: torch.Tensor) -> torch.Tensor:
    """Logits of all positions, token by token: [B, T, V]."""
    state, logits = model.start(latent), []
    for position in range(target_input.shape[1]):
        at, state = model.step(target_input[:, position], position, state)
        logits.append(at)
    return torch.stack(logits, dim=1)


def decoded(model: PretrainedDecoder[Any], latent: Any, target_input: torch.Tensor) -> torch.Tensor:
    """Logits of all positions at once: [B, T, V], -inf at the tokens that never come out."""
    weight, bias = model.head
    logits = model.decode(target_input, latent) @ weight.t() + bias
    return logits.index_fill(-1, model.unspoken, -torch.inf)
