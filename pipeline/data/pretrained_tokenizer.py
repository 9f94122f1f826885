"""The tokenizer of a pretrained model: its own special tokens around a text, labels behind its embedding's rows.

A text that spells a special token is encoded as the characters that it has, and decoding leaves out every special
token, so that the tokens of a chat never come out.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from pipeline.data import byte_level
from pipeline.data.special_tokens import Roles, special_tokens, store_roles
from pipeline.data.text_tokenizer import LABEL, SPECIAL, TextTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILLER = "[UNUSED:"  # a token for a row of the embedding that has none, so that labels come behind all rows


class PretrainedTokenizer(TextTokenizer):
    """A tokenizer with special tokens of its own.

    Args:
        tokenizer: a tokenizer of the tokenizers library.
        roles: ids of the tokens with a role.
        rows: rows of the model's embedding. Rows without a token get one that no text has; 0 adds none.

    Attributes:
        lossless: True if decoding the ids of a text gives the text, unless the ids contain `unk_id`. A byte-level
            tokenizer may lack bytes that its training text never had (SmolLM2 lacks six control characters and the
            unassigned planes 4 to 11 of Unicode).
    """

    def __init__(self, tokenizer: "Tokenizer", roles: Roles, rows: int = 0) -> None:
        self.lossless = byte_level.keeps_bytes(tokenizer)
        if self.lossless and byte_level.lacks_bytes(tokenizer):
            # The library drops a byte that has no token, without a word, unless an unknown token takes its place.
            unknown = next((number for number in (roles.unknown, roles.start) if number not in (None, roles.end)), None)
            self.lossless = unknown is not None
            roles = Roles(roles.pad, unknown, roles.start, roles.end)
            if unknown is not None:
                tokenizer.model.unk_token = tokenizer.id_to_token(unknown)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = roles.pad, roles.unknown, roles.start, roles.end
        self.tokenizer = tokenizer
        own = {roles.pad, roles.start, roles.end, *([] if roles.unknown is None else [roles.unknown])}
        tokenizer.add_special_tokens(
            [*special_tokens(tokenizer).values(), *(tokenizer.id_to_token(number) for number in sorted(own))]
        )
        tokenizer.add_special_tokens([f"{FILLER}{number}]" for number in range(self.vocabulary_size, rows)])
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # a text may spell them
        store_roles(tokenizer, roles)
        self.labels = {
            token[len(LABEL) : -1]: number
            for number, token in special_tokens(tokenizer).items()
            if token.startswith(LABEL)
        }
        self._special = self._find_special()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what the library leaves out when it pickles a tokenizer for another process."""
        self.__dict__.update(state)
        self.tokenizer.encode_special_tokens = True

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of all special tokens, of those with a role, and of labels."""
        return self._special

    def _find_special(self) -> frozenset[int]:
        hidden = {self.pad_id, self.cls_id, self.sep_id, *special_tokens(self.tokenizer)}
        return frozenset(hidden if self.lossless else hidden - {self.unk_id})

    def add_labels(self, labels: Sequence[str]) -> None:
        """Add a special token for each label, behind the rows of the model's embedding."""
        for label in labels:
            token = f"{LABEL}{label}]"
            self.tokenizer.add_special_tokens([token])
            self.labels[label] = cast(int, self.tokenizer.token_to_id(token))  # just added
        self._special = self._find_special()

    def decode(self, ids: Sequence[int]) -> str:
        """Decode token ids to text, without special tokens; an unknown token is [UNK] unless the tokenizer is lossless.

        A lossless tokenizer gives the text that was encoded, if `unk_id` is not among the ids.
        """
        hidden = self.special_ids
        kept = [int(index) for index in ids if int(index) not in hidden]
        if self.lossless:
            return self.tokenizer.decode(kept)
        names = (None if index == self.unk_id else self.tokenizer.id_to_token(index) for index in kept)
        tokens = [name or SPECIAL[1] for name in names]
        decoder = self.tokenizer.decoder
        return decoder.decode(tokens) if decoder is not None else " ".join(tokens)

    def name(self, index: int) -> str:
        """Return the name of a token for a reader: its text, a special token as it is, bytes as `<e4 b8>`."""
        token = self.tokenizer.id_to_token(index) or SPECIAL[1]
        if index in self.special_ids or index == self.unk_id:
            return token
        if not self.lossless:
            return token.replace("\u2581", " ")
        text = self.tokenizer.decode([index])
        return f"<{byte_level.as_bytes(token).hex(' ')}>" if "\ufffd" in text else text


def identity(tokenizer: TextTokenizer) -> dict[str, Any]:
    """Return what determines the token ids of a text: vocabulary, merges, splitting, and special tokens but labels."""
    stored: dict[str, Any] = json.loads(tokenizer.tokenizer.to_str())
    labels = set(tokenizer.label_ids)
    added = {token["id"]: token["content"] for token in stored["added_tokens"] if token["id"] not in labels}
    return {part: stored[part] for part in ("normalizer", "pre_tokenizer", "model")} | {"added_tokens": added}
