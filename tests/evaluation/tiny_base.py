"""Tiny pretrained models with random weights, in folders of the transformers library's form."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.helpers import text

needs_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="make pretrained installs transformers, which loads pretrained judges"
)
START = "<s>"
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def byte_level(start: bool, size: int = 320) -> Tokenizer:
    """Byte-level BPE with a start token, which it puts in front of every text if `start` is True."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[START], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text(50)], trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 0)])
    return tokenizer


def write_base(folder: Path, model: Any, start: bool = False) -> Path:
    """Save a model with a byte-level tokenizer."""
    model.save_pretrained(folder)
    byte_level(start).save(str(folder / "tokenizer.json"))
    return folder


def tiny_llama(seed: int = 0, context: int = 200, vocabulary: int = 320) -> Any:
    """A Llama with random weights, large enough for logits that differ."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, max_position_embeddings=context, initializer_range=0.3, **SIZES)
    )
