"""Tokenizers: loaded or trained, stored with the data; token ids decoded to readable text.

The tokenizers library is imported in functions: this module is imported while a command line is parsed.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.data import byte_level
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILE = "tokenizer.json"
_LABEL = "[LABEL:"

_JOINED = re.compile(r" (?=[,.'!?;:)\]}])|(?<=[(\[{]) |(?<=') (?=(?:s|t|re|ve|ll|d|m)\b)")


class TextTokenizer:
    """A tokenizer that puts `[CLS] … [SEP]` around every sentence.

    Args:
        tokenizer: a tokenizer of the tokenizers library.
        source: name or file of the tokenizer, for error messages.

    Attributes:
        lossless: True if decoding the ids of a text gives the text, whatever it spells.

    Raises:
        UserError: the tokenizer lacks one of [PAD], [UNK], [CLS], [SEP].
    """

    def __init__(self, tokenizer: "Tokenizer", source: str) -> None:
        known = {token: number for token in SPECIAL[:4] if (number := tokenizer.token_to_id(token)) is not None}
        if missing := [token for token in SPECIAL[:4] if token not in known]:
            raise UserError(
                f"the tokenizer {source} has no {', '.join(missing)}; take a BERT-like one, wordpiece or bpe"
            )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (known[token] for token in SPECIAL[:4])
        self.lossless = byte_level.is_lossless(tokenizer)
        if not self.lossless:
            self._mark_special(tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        _add_template(tokenizer, self.cls_id, self.sep_id)
        self.tokenizer = tokenizer
        self.labels: dict[str, int] = {
            token[len(_LABEL) : -1]: number
            for number, token in sorted(self._reserved().items())
            if token.startswith(_LABEL)
        }

    @staticmethod
    def _mark_special(tokenizer: "Tokenizer") -> None:
        """Mark the special tokens; otherwise "[UNK]" would be split into three tokens, like any other text."""
        marked = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        tokenizer.add_special_tokens([token for token in SPECIAL[:4] if token not in marked])

    def _reserved(self) -> dict[int, str]:
        """Return the tokens by id that may be labels: special ones, or those in brackets if none is marked special."""
        if not self.lossless:
            return {number: token.content for number, token in self.tokenizer.get_added_tokens_decoder().items()}
        return {number: token for token, number in self.tokenizer.get_vocab().items() if token.startswith("[")}

    def add_labels(self, labels: Sequence[str]) -> None:
        """Add a special token for each label, which `encode` puts in front of the label's texts."""
        tokens = [f"{_LABEL}{label}]" for label in labels]
        if self.lossless and tokens:
            self.tokenizer = byte_level.with_tokens(self.tokenizer, tokens)
            _add_template(self.tokenizer, self.cls_id, self.sep_id)
        for label, token in zip(labels, tokens, strict=True):
            if not self.lossless:
                self.tokenizer.add_special_tokens([token])
            self.labels[label] = cast(int, self.tokenizer.token_to_id(token))  # just added

    @property
    def label_ids(self) -> list[int]:
        """Token ids of the labels."""
        return list(self.labels.values())

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids: ids range from 0 to this, exclusive."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str], labels: Sequence[str | None] | None = None) -> list[list[int]]:
        """Encode texts of any length as `[CLS] … [SEP]`, or as `[CLS] label … [SEP]` if they have labels."""
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        if labels is not None:
            for ids, label in zip(encoded, labels, strict=True):
                if label is not None:
                    ids.insert(1, self.labels[label])
        return encoded

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids to text.

        A lossless tokenizer gives the text that was encoded. Otherwise, join word pieces, keep [UNK], and drop other
        special tokens.
        """
        if self.lossless:
            return self.tokenizer.decode([int(index) for index in ids])
        hidden = {self.pad_id, self.cls_id, self.sep_id, *self.label_ids}
        tokens = [self.tokenizer.id_to_token(int(index)) or SPECIAL[1] for index in ids if index not in hidden]
        return _JOINED.sub("", " ".join(tokens).replace(" ##", "").removeprefix("##"))

    def name(self, index: int) -> str:
        """Return the name of a token for a reader: its text, a special token in brackets, bytes as `<e4 b8>`."""
        token = self.tokenizer.id_to_token(index) or SPECIAL[1]
        if not self.lossless or token in SPECIAL or token.startswith(_LABEL):
            return token
        text = self.tokenizer.decode([index])
        return f"<{byte_level.as_bytes(token).hex(' ')}>" if "\ufffd" in text else text

    def decode_batch(self, batch: Iterable[Sequence[int]]) -> list[str]:
        """Decode the token ids of each sentence to readable text."""
        return [self.decode(ids) for ids in batch]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` to a folder."""
        with replacing(Path(folder) / FILE) as temporary:
            self.tokenizer.save(str(temporary))


def tokenizer_file(name: str) -> Path | None:
    """Return the `tokenizer.json` of a folder or path, or None for a name on the hub.

    Raises:
        UserError: no such file exists, and `name` cannot be a name on the hub.
    """
    path = os.path.join(name, FILE) if os.path.isdir(name) else name
    if os.path.isfile(path):
        return Path(path)
    on_hub = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)?", path) and not path.endswith(".json")
    if not on_hub or os.path.exists(path):
        raise UserError(f"{path[:200]} is not there; --TOKENIZER names a hub tokenizer, a folder or a tokenizer.json")
    return None


def load_tokenizer(name: str) -> TextTokenizer:
    """Load a tokenizer by hub name, folder or `tokenizer.json`.

    Raises:
        UserError: the tokenizer does not exist, is damaged, cannot be downloaded, or lacks a special token.
    """
    from tokenizers import Tokenizer

    path = tokenizer_file(name)
    if path is not None:
        try:
            return TextTokenizer(Tokenizer.from_file(str(path)), str(path))
        except UserError:
            raise
        except Exception as error:  # the library raises a bare Exception
            raise UserError(
                f"{path} is no tokenizer of the tokenizers library ({' '.join(str(error).split())})"
            ) from None
    print(f"asking the Hugging Face hub for the tokenizer {name}", flush=True)
    try:
        from huggingface_hub import hf_hub_download, logging

        logging.set_verbosity_error()  # no line for every retry: the last error has its own line
        return TextTokenizer(Tokenizer.from_file(hf_hub_download(name, FILE)), name)
    except UserError:
        raise
    except Exception as error:  # many kinds; all mean that the tokenizer did not arrive
        raise UserError(
            f"the Hugging Face hub did not deliver the tokenizer {name!r} ({type(error).__name__}); check the "
            "connection, give a folder with a tokenizer.json, or take --TOKENIZER bpe"
        ) from None


def train_bpe(texts: Iterable[str], vocabulary_size: int) -> TextTokenizer:
    """Train lossless byte-level BPE on texts, see `byte_level.train`; the same texts give the same tokenizer."""
    return TextTokenizer(byte_level.train(texts, vocabulary_size, SPECIAL), "bpe")


def train_wordpiece(texts: Iterable[str], vocabulary_size: int, lower_case: bool) -> TextTokenizer:
    """Train WordPiece (Wu et al. 2016) on texts; the same texts give the same tokenizer.

    Args:
        texts: training split; it is read twice and cannot be an iterator.
        vocabulary_size: maximal number of tokens, special ones counted; single characters are kept even beyond it.
        lower_case: True drops case and accents; meant for text that is cleaned of both.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    model = models.WordPiece(unk_token=SPECIAL[1])
    first = _bert_like(Tokenizer(model), lower_case)
    # The trainer numbers the characters that continue a word (##a) in the order of a randomly seeded hash, and
    # breaks ties by these numbers. As special tokens, they have their numbers before the training begins.
    reserved = [*SPECIAL, *_continuing_characters(first, texts)]
    # WordPiece encodes a longer word as [UNK], and the trainer's time grows with the square of a word's length.
    too_long = pre_tokenizers.Split(Regex(f".{{{model.max_input_chars_per_word + 1},}}"), "removed")
    first.pre_tokenizer = pre_tokenizers.Sequence([first.pre_tokenizer, too_long])
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=reserved, show_progress=False)
    first.train_from_iterator(texts, trainer)
    # The vocabulary moves to a tokenizer in which ##a is no special token.
    tokenizer = _bert_like(Tokenizer(models.WordPiece(first.get_vocab(), unk_token=SPECIAL[1])), lower_case)
    tokenizer.add_special_tokens(list(SPECIAL))
    return TextTokenizer(tokenizer, "wordpiece")


def _bert_like(tokenizer: "Tokenizer", lower_case: bool) -> "Tokenizer":
    """Give a tokenizer BERT's normalizer and its splitting at punctuation.

    BERT's cleaning would drop the joiners inside Persian and Hindi words and inside emoji, with all other format
    characters. Text that keeps its case is not cleaned in this way.
    """
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=lower_case, lowercase=lower_case, strip_accents=lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _continuing_characters(tokenizer: "Tokenizer", texts: Iterable[str]) -> list[str]:
    """Return the characters of texts that can continue a word, sorted, as word pieces: `##a`."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    continuing: set[str] = set()
    for character in characters:
        words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str("a" + character))
        if len(words) == 1:  # punctuation and white space end the word
            continuing.update(words[0][0][1:])
    return [f"##{character}" for character in sorted(continuing)]


def _add_template(tokenizer: "Tokenizer", cls_id: int, sep_id: int) -> None:
    """Put [CLS] and [SEP] around every sentence; a newly trained tokenizer has no such template."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)]
    )
