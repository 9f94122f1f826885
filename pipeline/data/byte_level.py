"""Byte-level BPE for a user's own text: decoding the token ids of a text gives the text, character by character.

The special tokens and the labels are in the vocabulary but are no "added tokens" of the tokenizers library, which
would find them in a text that spells them. No merge can produce them, since `WORDS` never joins brackets to letters.
The decoder removes them. All of this is in `tokenizer.json`, so any program that reads it has it.

The tokenizers library is imported in functions: this module is imported while a command line is parsed.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MIN_FREQUENCY = 2  # a pair of tokens that occurs once teaches nothing
# Letters with their combining marks; single digits, as numbers are read by place; other marks; white space. A word has
# at most 64 characters: the trainer's time grows with the square of a word's length.
WORDS = (
    r"'(?:s|t|re|ve|ll|d|m)(?!\p{L})| ?[\p{L}\p{M}]{1,64}| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]{1,64}|"
    r"\s{1,64}(?!\S)|\s{1,64}"
)
HIDDEN = r"\A\[(?:PAD|UNK|CLS|SEP|MASK|LABEL:[\s\S]*)\]\z"  # a token as a whole


def train(texts: Iterable[str], vocabulary_size: int, special: Sequence[str]) -> "Tokenizer":
    """Train byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) on texts.

    Args:
        texts: training split.
        vocabulary_size: maximal number of tokens; the special tokens and the 256 bytes are kept even beyond it.
        special: special tokens, which take the first ids.
    """
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = _around(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=MIN_FREQUENCY,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_tokens(tokenizer, ())


def with_tokens(tokenizer: "Tokenizer", tokens: Sequence[str]) -> "Tokenizer":
    """Return the tokenizer with further tokens in its vocabulary, which no text is encoded as."""
    from tokenizers import models

    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    return _around(models.BPE(vocabulary, [tuple(merge) for merge in model["merges"]]))


def as_bytes(token: str) -> bytes:
    """Return the bytes of a token, which the vocabulary writes as a printable character each."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    characters = {chr(256 + number): byte for number, byte in enumerate(others)}
    return bytes(characters.get(character, ord(character) & 255) for character in token)


def is_lossless(tokenizer: "Tokenizer") -> bool:
    """Return True for a tokenizer of this module, also after it was stored and loaded."""
    stored = json.loads(tokenizer.to_str())
    own = json.loads(_around(tokenizer.model).to_str())
    return all(stored[part] == own[part] for part in ("normalizer", "pre_tokenizer", "decoder", "added_tokens"))


def keeps_bytes(tokenizer: "Tokenizer") -> bool:
    """Return True if any byte-level BPE gives the bytes of a text back, but for those that it has no token for.

    Nothing may change the text before it becomes bytes (a normalizer, a space in front, white space that is dropped),
    and the decoder must join bytes.
    """
    stored: dict[str, Any] = json.loads(tokenizer.to_str())
    model, decoder = stored["model"], stored["decoder"] or {}
    added = [(number, token) for number, token in tokenizer.get_added_tokens_decoder().items() if not token.special]
    return (
        model["type"] == "BPE"
        and not any(model.get(part) for part in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and stored["normalizer"] is None
        and decoder.get("type") == "ByteLevel"
        and _keeps(stored["pre_tokenizer"] or {})
        and '"ByteLevel"' in json.dumps(stored["pre_tokenizer"])
        and all(tokenizer.decode([number]) == token.content for number, token in added)
        and not any(token.lstrip or token.rstrip for _, token in added)
    )


def _keeps(splitting: dict[str, Any]) -> bool:
    """Return True for a step of splitting that keeps every character."""
    kind = splitting.get("type")
    if kind == "Sequence":
        return all(map(_keeps, splitting["pretokenizers"]))
    if kind == "ByteLevel":
        return not splitting["add_prefix_space"]
    return kind in ("Digits", "UnicodeScripts") or (
        kind in ("Split", "Punctuation") and splitting["behavior"] != "Removed"
    )


def lacks_bytes(tokenizer: "Tokenizer") -> bool:
    """Return True if a byte-level vocabulary has no token for a byte that UTF-8 may contain."""
    known = {as_bytes(token) for token in tokenizer.get_vocab() if len(token) == 1}
    return not known >= {bytes([byte]) for byte in range(0xF5) if byte not in (0xC0, 0xC1)}


def _around(model: Any) -> "Tokenizer":
    """Put a model between splitting into words and bytes, and joining bytes to text."""
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex(HIDDEN), ""), decoders.ByteLevel()])
    return tokenizer
