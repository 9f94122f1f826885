"""Code of a column of free text: the tokens of a byte-level tokenizer, and one that ends the value."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.data.column_code import Allowed, ColumnCode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PRESENT = "present"  # condition that a text is not empty


class TextCode(ColumnCode):
    """Tokens of a text, which all columns of text share, and the column's own end token.

    Args:
        tokenizer: byte-level tokenizer.
        texts: ids of its tokens that are parts of texts; the code has these numbers for them.
        end: number of the end token.
        longest: largest number of tokens of a value, the end token counted.
        empty: True if some values of the column are empty.
    """

    kind = "text"

    def __init__(self, tokenizer: "Tokenizer", texts: range, longest: int = 0, empty: bool = True) -> None:
        self.tokenizer, self.texts, self.end, self.longest = tokenizer, texts, texts.stop, longest
        self.empty = empty
        self.size = self.end + 1
        self._first, self._within, self._last = tuple(texts), (*texts, self.end), (self.end,)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "TextCode":
        """Create the code from its description and the tokenizer in it."""
        return cls(stored["tokenizer"], range(*stored["texts"]), stored["longest"], stored.get("empty", True))

    def to_json(self) -> dict[str, Any]:
        """Describe the code without its tokenizer, which has a file of its own."""
        texts = [self.texts.start, self.texts.stop]
        return {"kind": self.kind, "texts": texts, "longest": self.longest, "empty": self.empty}

    def encode(self, spelled: str) -> list[int]:
        """Return the tokens of the text and the end token."""
        return [*self.tokenizer.encode(spelled, add_special_tokens=False).ids, self.end]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the text."""
        return self.tokenizer.decode(list(tokens[:-1])) if tokens and tokens[-1] == self.end else None

    def allowed(self, prefix: Sequence[int], permitted: tuple[tuple[int, ...], ...] | str | None = None) -> Allowed:
        """Return any token, or the end after the longest value; of some permitted values the tokens that go on.

        Args:
            prefix: the first tokens of a value.
            permitted: tokens of each permitted value, the end token too; `PRESENT` for all values that are not empty;
                None for all values.
        """
        if prefix and prefix[-1] == self.end:
            return ()
        if not prefix and (permitted == PRESENT or (permitted is None and not self.empty)):
            return self._first
        if permitted is not None and not isinstance(permitted, str):
            place = len(prefix)
            return tuple(sorted({one[place] for one in permitted if one[:place] == tuple(prefix)}))
        return self._last if len(prefix) >= self.longest - 1 else self._within

    def name(self, token: int) -> str:
        """Return the text of a token, or a word for the end."""
        return "end" if token == self.end else self.tokenizer.decode([token])
