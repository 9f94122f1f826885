"""Tokenizers as pretrained models have them, in folders of Hugging Face's form."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.data.own_files import DOCUMENTS, SCRIPTS

CHAT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>")  # special tokens of SmolLM2
SMOLLM2: dict[str, Any] = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}
BART: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>"},
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
LACKED = "\x04\x13"  # characters whose bytes `byte_level_bpe` has no token for, if `whole` is False


def byte_level_bpe(special: Sequence[str], whole: bool = True) -> Tokenizer:
    """Byte-level BPE as GPT-2 has it, with its special tokens first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    known = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=known, show_progress=False
    )
    tokenizer.train_from_iterator([*DOCUMENTS, *SCRIPTS.values()], trainer)
    if not whole:
        stored = json.loads(tokenizer.to_str())
        lacked = {chr(256 + ord(character)) for character in LACKED}
        names = [token for token in stored["model"]["vocab"] if token not in lacked]
        stored["model"]["vocab"] = {token: number for number, token in enumerate(names)}
        tokenizer = Tokenizer.from_str(json.dumps(stored))
    return tokenizer


def sentencepiece(special: Sequence[str] = ("<pad>", "</s>", "<unk>")) -> Tokenizer:
    """A unigram model of words behind white space, as T5 has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=list(special), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(DOCUMENTS, trainer)
    return tokenizer


def folder_of(
    folder: Path, tokenizer: Tokenizer, declared: dict[str, Any] | None = None, config: dict[str, Any] | None = None
) -> Path:
    """Write a model's folder without its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if declared is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def smollm2_like(folder: Path, whole: bool = True, rows: int | None = None) -> Path:
    """Write the folder of a small tokenizer with SmolLM2's special tokens."""
    config = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2} | ({"vocab_size": rows} if rows else {})
    return folder_of(folder, byte_level_bpe(CHAT, whole), SMOLLM2, config)
