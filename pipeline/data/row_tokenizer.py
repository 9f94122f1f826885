"""Rows of a table to tokens and back: a token for each column, and the tokens of its value behind it.

The columns of a row may come in any order; the text of a row has them in the order of its template.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data import byte_level
from pipeline.data.column_code import ColumnCode
from pipeline.data.row_codes import CODES, column_codes
from pipeline.data.row_template import RowTemplate
from pipeline.data.text_code import TextCode
from pipeline.data.text_tokenizer import SPECIAL, TextTokenizer
from pipeline.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from random import Random

    from tokenizers import Tokenizer

FILE = "row_tokenizer.json"  # beside the file of the tokenizer


@dataclass(frozen=True)
class Field:
    """A column in the vocabulary.

    Args:
        column: name of the column.
        code: code of its values.
        marker: id of the token in front of a value.
        first: id of the first token of the code that no other column has.
    """

    column: str
    code: ColumnCode
    marker: int
    first: int

    @property
    def _shared(self) -> int:
        """Number of the code's tokens that it shares with other columns."""
        return self.code.end if isinstance(self.code, TextCode) else 0

    def to_id(self, token: int) -> int:
        """Return the id of a token of the code."""
        return token if token < self._shared else token - self._shared + self.first

    def from_id(self, index: int) -> int | None:
        """Return the token of the code with this id; None if the code has none."""
        token = index if index < self._shared else index - self.first + self._shared
        return token if 0 <= token < self.code.size and (token >= self._shared or index == token) else None

    def encode(self, spelled: str) -> list[int] | None:
        """Return the ids of the column and a value; None if the column has no such value."""
        tokens = self.code.encode(spelled)
        return None if tokens is None else [self.marker, *map(self.to_id, tokens)]


class RowTokenizer(TextTokenizer):
    """A tokenizer of the texts of a row template.

    A row with a value that a column cannot have is encoded with an unknown token in its place.

    Args:
        tokenizer: byte-level tokenizer whose vocabulary has the tokens of the columns.
        template: template of the rows.
        codes: code of each column of the template, in its order.
        first: id of the first column's token.
    """

    def __init__(
        self, tokenizer: "Tokenizer", template: RowTemplate, codes: Mapping[str, ColumnCode], first: int
    ) -> None:
        super().__init__(tokenizer, "table")
        self.template, self._first = template, first
        self.fields: dict[str, Field] = {}
        for column, code in codes.items():
            field = Field(column, code, first, first + 1)
            self.fields[column] = field
            first = field.to_id(code.size - 1) + 1
        self._by_marker = {field.marker: field for field in self.fields.values()}

    @classmethod
    def train(
        cls,
        texts: Callable[[], Iterable[str]],
        template: RowTemplate,
        descriptions: Mapping[str, Mapping[str, Any]],
        vocabulary_size: int,
    ) -> "RowTokenizer":
        """Choose the codes of the columns from the texts of all rows.

        Args:
            texts: reads the texts.
            template: template of the texts.
            descriptions: types of the columns, as `ColumnSurvey` describes them.
            vocabulary_size: maximal number of tokens for the columns of text.
        """
        tokenizer, codes = column_codes(
            texts,
            template,
            descriptions,
            lambda values: byte_level.train(values, vocabulary_size, SPECIAL),
            len(SPECIAL),
        )
        first, names = tokenizer.get_vocab_size(), []
        for number, (column, code) in enumerate(codes.items()):
            own = range(code.end if isinstance(code, TextCode) else 0, code.size)
            names += [f"[{number}:{column}]", *(f"[{number}:{token}:{code.name(token)}]" for token in own)]
        return cls(byte_level.with_tokens(tokenizer, names), template, codes, first)

    @classmethod
    def load(cls, tokenizer: "Tokenizer", file: Path) -> "RowTokenizer":
        """Create the tokenizer from its files."""
        stored = read_json(file, "prepare the data anew with prepareDatasets.py")
        codes = {
            name: CODES[code["kind"]].from_json({**code, "tokenizer": tokenizer})
            for name, code in stored["codes"].items()
        }
        return cls(tokenizer, RowTemplate(stored["template"], list(codes), "the data"), codes, stored["first"])

    def save(self, folder: Path) -> None:
        """Write the files of the tokenizer to a folder."""
        codes = {name: field.code.to_json() for name, field in self.fields.items()}
        stored = {"template": self.template.pattern, "first": self._first, "codes": codes}
        write_json(Path(folder) / FILE, stored)
        super().save(folder)

    def encode(self, texts: Sequence[str], labels: Sequence[str | None] | None = None) -> list[list[int]]:
        """Encode rows as `[CLS] column value … [SEP]`, or with the token of a label behind `[CLS]`."""
        encoded = []
        for number, text in enumerate(texts):
            ids, label = [self.cls_id], None if labels is None else labels[number]
            ids += [] if label is None else [self.labels[label]]
            values = self.template.values(text)
            unknown = [] if self.unk_id is None else [self.unk_id]
            for name, field in self.fields.items() if values is not None else ():
                found = None if values is None else field.encode(values[name])
                ids += [field.marker, *unknown] if found is None else found
            encoded.append([*ids, *(unknown if values is None else ()), self.sep_id])
        return encoded

    def problem(self, text: str) -> str | None:
        """Say why a text is no row that the tokenizer can encode; None if it is one."""
        values = self.template.values(text)
        if values is None:
            return f"is no row of the table; a row has the form {self.template.pattern[:200]!r}"
        for name, field in self.fields.items():
            if field.encode(values[name]) is None:
                return (
                    f"has {values[name][:80]!r} in the column {name!r}, which has no such value; take one that it has"
                )
        return None

    def values(self, ids: Sequence[int]) -> dict[str, str]:
        """Return the spelled values of token ids by column; columns without a whole value are left out."""
        found: dict[str, str] = {}
        for marker, tokens in self.parts(ids):
            field = self._by_marker[marker]
            own = [field.from_id(index) for index in tokens]
            known = [token for token in own if token is not None]
            value = field.code.decode(known) if len(known) == len(own) else None
            if value is not None:
                found.setdefault(field.column, value)
        return found

    def parts(self, ids: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Divide token ids into the columns' tokens, each with the ids behind it; others are left out."""
        parts: list[tuple[int, list[int]]] = []
        hidden = self.special_ids
        for index in map(int, ids):
            if index in self._by_marker:
                parts.append((index, []))
            elif parts and index not in hidden:
                parts[-1][1].append(index)
        return parts

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a row; a column without a whole value has an empty one."""
        values = self.values(ids)
        return self.template.text({name: values.get(name, "") for name in self.fields})

    def shuffled(self, ids: Sequence[int], random: "Random") -> list[int]:
        """Return the token ids of a row with its columns in random order.

        Args:
            ids: `[CLS] … [SEP]`.
            random: source of the order.
        """
        parts = self.parts(ids)
        start = next((place for place, index in enumerate(ids) if index in self._by_marker), len(ids) - 1)
        random.shuffle(parts)
        return [*ids[:start], *(index for marker, tokens in parts for index in (marker, *tokens)), ids[-1]]

    def without(self, ids: Sequence[int], columns: Collection[str]) -> list[int]:
        """Return the token ids of a row, `[CLS] … [SEP]`, without some of its columns."""
        left_out = {self.fields[name].marker for name in columns}
        kept, hidden = [], False
        for index in ids:
            if index in self._by_marker or index == self.sep_id:
                hidden = index in left_out
            if not hidden:
                kept.append(index)
        return kept

    def name(self, index: int) -> str:
        """Return the name of a token for a reader: the column, or the part of a value."""
        if index in self._by_marker:
            return f"[{self._by_marker[index].column}]"
        for field in self.fields.values():
            if index >= field.first and (token := field.from_id(index)) is not None:
                return field.code.name(token)
        return super().name(index)
