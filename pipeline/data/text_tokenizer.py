"""Text to token ids and back: the tokenizer of prepared data, with the tokens around a text, and labels.

The tokenizers library is imported in functions: this module is imported while a command line is parsed.
"""

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
LABEL = "[LABEL:"

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
                f"the tokenizer {source} has no {', '.join(missing)}, and no file beside it declares an eos_token; "
                "take a BERT-like one, the whole folder of a pretrained model, wordpiece or bpe"
            )
        self.pad_id, unknown, self.cls_id, self.sep_id = (known[token] for token in SPECIAL[:4])
        self.unk_id: int | None = unknown
        self.lossless = byte_level.is_lossless(tokenizer)
        if not self.lossless:
            self._mark_special(tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        _add_template(tokenizer, self.cls_id, self.sep_id)
        self.tokenizer = tokenizer
        self.labels: dict[str, int] = {
            token[len(LABEL) : -1]: number
            for number, token in sorted(self._reserved().items())
            if token.startswith(LABEL)
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
        tokens = [f"{LABEL}{label}]" for label in labels]
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
    def special_ids(self) -> frozenset[int]:
        """Ids of the tokens that are no part of a text: padding, start, end and labels."""
        return frozenset({self.pad_id, self.cls_id, self.sep_id, *self.label_ids})

    @property
    def base_size(self) -> int:
        """Number of token ids without those of labels, which come last."""
        return min(self.label_ids, default=self.vocabulary_size)

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
        hidden = self.special_ids
        tokens = [self.tokenizer.id_to_token(int(index)) or SPECIAL[1] for index in ids if index not in hidden]
        return _JOINED.sub("", " ".join(tokens).replace(" ##", "").removeprefix("##"))

    def name(self, index: int) -> str:
        """Return the name of a token for a reader: its text, a special token in brackets, bytes as `<e4 b8>`."""
        token = self.tokenizer.id_to_token(index) or SPECIAL[1]
        if not self.lossless or token in SPECIAL or token.startswith(LABEL):
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


def has_native_roles(tokenizer: "Tokenizer") -> bool:
    """Return True if a tokenizer has [PAD], [UNK], [CLS] and [SEP]."""
    return all(tokenizer.token_to_id(token) is not None for token in SPECIAL[:4])


def _add_template(tokenizer: "Tokenizer", cls_id: int, sep_id: int) -> None:
    """Put [CLS] and [SEP] around every sentence; a newly trained tokenizer has no such template."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)]
    )
