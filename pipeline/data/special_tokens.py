"""Roles of a tokenizer's special tokens: padding, unknown, start and end of a text.

A BERT-like tokenizer has [PAD], [UNK], [CLS] and [SEP]. A pretrained model's tokenizer has tokens of its own, which
`tokenizer_config.json`, `special_tokens_map.json` or `config.json` beside it declare. Prepared data and shared models
store the roles as named tokens of the template in `tokenizer.json`, and need none of these files.

The tokenizers library is imported in functions: this module is imported while a command line is parsed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DECLARING = ("tokenizer_config.json", "special_tokens_map.json")  # the first that names a token decides
CONFIG = "config.json"
DOCUMENT = "<|endoftext|>"  # the token between documents of models whose chats have other tokens
TURN = "<|im_start|>"  # it begins a turn of a chat; some chat models declare it as bos_token
MARKUP = re.compile(r"<[^\s<>]+>")  # e.g. <tool_call>, which Qwen does not mark as special


@dataclass(frozen=True)
class Roles:
    """Token ids of the four roles.

    Args:
        pad: padding behind a text. It is the end token only where a tokenizer has no other special token.
        unknown: what a tokenizer has no token for; None for a tokenizer that encodes every text.
        start: token before a text. It may be the end token, as in GPT-2.
        end: token behind a text.
    """

    pad: int
    unknown: int | None
    start: int
    end: int


def special_tokens(tokenizer: "Tokenizer") -> dict[int, str]:
    """Return the special tokens by id, those that look like markup included."""
    return {
        number: token.content
        for number, token in sorted(tokenizer.get_added_tokens_decoder().items())
        if token.special or MARKUP.fullmatch(token.content)
    }


def stored_roles(tokenizer: "Tokenizer") -> Roles | None:
    """Return the roles that `store_roles` has put into the tokenizer, or None."""
    if tokenizer.post_processor is None:
        return None
    template: dict[str, Any] = json.loads(tokenizer.post_processor.__getstate__())
    tokens = template.get("special_tokens")
    if not isinstance(tokens, dict) or not {"pad", "start", "end"} <= tokens.keys():
        return None
    ids = {role: tokens[role]["ids"][0] for role in ("pad", "unknown", "start", "end") if role in tokens}
    return Roles(ids["pad"], ids.get("unknown"), ids["start"], ids["end"])


def store_roles(tokenizer: "Tokenizer", roles: Roles) -> None:
    """Put the start and end token around every text; the template names all four roles."""
    from tokenizers.processors import TemplateProcessing

    ids = {"pad": roles.pad, "unknown": roles.unknown, "start": roles.start, "end": roles.end}
    tokens = [
        {"id": role, "ids": [number], "tokens": [tokenizer.id_to_token(number)]}
        for role, number in ids.items()
        if number is not None
    ]
    tokenizer.post_processor = TemplateProcessing(single="start $A end", special_tokens=tokens)


def declared_roles(tokenizer: "Tokenizer", folder: Path) -> Roles | None:
    """Choose the roles from the tokens that the files beside `tokenizer.json` declare.

    - end: eos_token, else sep_token.
    - start: bos_token, else cls_token, else the decoder's start token (T5 and Marian: the padding token), else
      `<|endoftext|>`, else the padding token, else the end token (GPT-2 has the same bos_token and eos_token). A
      chat's `<|im_start|>` begins a turn and no text: `<|endoftext|>` takes its place where there is one.
    - padding: pad_token if it is not the end token, else any other special token, else the start token.
    - unknown: unk_token if it is not the end token, else None.

    Returns:
        The roles, or None if no end token is declared.

    Raises:
        UserError: one of the files is damaged.
    """
    tokens = _Declared(tokenizer, folder)
    end = tokens.first("eos", "sep")
    if end is None:
        return None
    document, pad = tokenizer.token_to_id(DOCUMENT), tokens.first("pad")
    start = tokens.first("bos", "cls", "decoder_start")
    if start is None or (start == tokenizer.token_to_id(TURN) and document is not None):
        start = next(number for number in (document, pad, end) if number is not None)
    unknown = tokens.first("unk")
    unknown = None if unknown == end else unknown
    if pad is None or pad == end:
        others = [number for number in special_tokens(tokenizer) if number not in (start, end)]
        pad = next(iter([number for number in others if number != unknown] + others), start)
    return Roles(pad, unknown, start, end)


def embedding_rows(folder: Path) -> int:
    """Return the number of rows of a model's embedding, which may exceed its tokenizer's; 0 without `config.json`.

    Raises:
        UserError: `config.json` is damaged.
    """
    config = _content(folder / CONFIG)
    text = config.get("text_config")  # of a model that reads more than text
    rows = config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return rows if isinstance(rows, int) else 0


class _Declared:
    """Ids of the tokens that the files in a folder declare, and that the tokenizer has."""

    def __init__(self, tokenizer: "Tokenizer", folder: Path) -> None:
        self.tokenizer = tokenizer
        self.named = [_content(folder / name) for name in DECLARING]
        self.config = _content(folder / CONFIG)

    def first(self, *names: str) -> int | None:
        """Return the id of the first of these tokens that is declared, or None."""
        return next((found for name in names if (found := self._id(name)) is not None), None)

    def _id(self, name: str) -> int | None:
        for declared in self.named:
            token = declared.get(f"{name}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str) and (number := self.tokenizer.token_to_id(token)) is not None:
                return number
        number = self.config.get(f"{name}_token_id")
        number = next(iter(number), None) if isinstance(number, list) else number
        return number if isinstance(number, int) and self.tokenizer.id_to_token(number) is not None else None


def _content(path: Path) -> Mapping[str, Any]:
    """Return the content of a JSON file, empty if it does not exist."""
    content = read_json(path, "fetch the model's folder anew") if path.is_file() else {}
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; fetch the model's folder anew")
    return content
