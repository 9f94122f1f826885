"""Tiny pretrained encoder-decoders with random weights, in folders of Hugging Face's form, and models around them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models import MODELS, build
from models.pretrained_base import sizes
from models.registry import kind_of
from tests.data.base_tokenizers import byte_level_bpe

WIDTH, LAYERS, HEADS = 32, 2, 4
START, PAD, END, UNKNOWN = 0, 1, 2, 3
FIRST = 4  # the first id that a text can have
EMPTY = 6  # rows of the embedding that have no token
FAMILIES = ("bart", "t5", "flan", "mbart", "marian")  # flan: T5 without tied outputs, 6 heads of width 8
FIRST_TOKEN = {"bart": END, "t5": PAD, "flan": PAD, "mbart": START, "marian": PAD}
NAMES = ("NVIB", "T", "VTV", "VTS")


def save_seq2seq(folder: Path, family: str = "bart", seed: int = 0, positions: int = 128) -> Path:
    """Save an encoder-decoder of a family, of a few thousand parameters, with its tokenizer.

    Args:
        folder: new or empty folder.
        family: one of `FAMILIES`.
        seed: seed of the weights.
        positions: tokens of the longest text that it has positions for; T5 has them for any.
    """
    transformers: Any = pytest.importorskip("transformers", reason="the extra pretrained is not installed")
    pytest.importorskip("peft", reason="the extra pretrained is not installed")
    tokens = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(tuple(tokens.values())), **tokens)
    tokenizer.save_pretrained(folder)
    usual = {"vocab_size": len(tokenizer) + EMPTY, "d_model": WIDTH, "pad_token_id": PAD, "eos_token_id": END}
    stacks = ("encoder", "decoder")
    parts = {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 48}
    bart = usual | {f"{stack}_{name}": size for stack in stacks for name, size in parts.items()}
    bart |= {"bos_token_id": START, "max_position_embeddings": positions, "init_std": 0.3, "forced_eos_token_id": None}
    t5 = usual | {"d_kv": 8, "d_ff": 48, "num_layers": LAYERS, "decoder_start_token_id": PAD}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if family == "t5":
            model = transformers.T5ForConditionalGeneration(transformers.T5Config(num_heads=HEADS, **t5))
        elif family == "flan":
            t5 |= {"num_heads": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
            model = transformers.T5ForConditionalGeneration(transformers.T5Config(**t5))
        elif family == "marian":
            config = transformers.MarianConfig(decoder_start_token_id=PAD, scale_embedding=True, **bart)
            model = transformers.MarianMTModel(config)
        elif family == "mbart":  # it declares no first token of its decoder
            config = transformers.MBartConfig(scale_embedding=True, **bart)
            model = transformers.MBartForConditionalGeneration(config)
        else:
            config = transformers.BartConfig(decoder_start_token_id=END, **bart)
            model = transformers.BartForConditionalGeneration(config)
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            # Norms of different gain and offset in each dimension, and a bias of the logits, as trained models have.
            if "norm" in name or name == "final_logits_bias":
                value.add_(0.5 * torch.randn(value.shape))
    model.save_pretrained(folder)
    assert kind_of(folder) == "encoder-decoder"
    return folder


def built(folder: Path, name: str = "NVIB", labels: int = 0, **settings: Any) -> Any:
    """Build a model around the base in a folder, in evaluation mode, with the defaults of train.py.

    Args:
        folder: folder of the base.
        name: one of `NAMES`.
        labels: tokens behind the rows of the embedding.
        settings: further settings.
    """
    found = sizes(folder)
    usual: dict[str, Any] = {"dropout": 0.0, "pretrained": str(folder), "num_layers": found.layers}
    usual |= {"dim_h": found.dim, "num_heads": found.heads, "vocabulary_size": found.rows + labels}
    if name == "NVIB":
        usual |= {"bottleneck": "identity", "alpha_threshold": 0.0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made: Any = build(MODELS[name](**(usual | settings)), folder)
    return made.eval()


def texts(folder: Path, *lengths: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make texts of these lengths: source, padding mask and target input, [B, N] each."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    source = torch.randint(FIRST, sizes(folder).rows - EMPTY, mask.shape).masked_fill(mask, PAD)
    source[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    return source, mask, torch.cat([torch.full((len(lengths), 1), START), source[:, :-1]], dim=1)
