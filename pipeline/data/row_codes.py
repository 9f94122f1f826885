"""The code of each column of a table, chosen from the column's type and all its values."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.data.column_code import ColumnCode, ValueCode
from pipeline.data.column_survey import MISSING
from pipeline.data.column_types import CATEGORIES, MANY_CATEGORIES
from pipeline.data.date_code import DateCode, parts_of
from pipeline.data.floating_code import FloatingCode, floating_code
from pipeline.data.number_code import DIGITS, NumberCode
from pipeline.data.number_format import NumberFormat, decimal_of
from pipeline.data.row_template import RowTemplate
from pipeline.data.text_code import TextCode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ALL: tuple[type[ColumnCode], ...] = (ValueCode, NumberCode, FloatingCode, DateCode, TextCode)
CODES = {one.kind: one for one in _ALL}
FEW, REPEATED = 200, 10  # ordered values that have a token each at most, and rows for each of them at least
SPECIALS = 1000  # values of a column of numbers or dates that have a token of their own at most


class _Column:
    """Values of a column: the different ones, and those that the code of its type cannot write.

    Args:
        description: type of the column, as `ColumnSurvey` describes it.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.kind: str = description["kind"]
        self.rows = 0  # rows with a value
        self.values: dict[str, None] | None = {}
        self.specials: dict[str, None] = {}
        self.ordered = _ordered(description)
        self.extents: set[tuple[int, int]] = set()
        self.zones: dict[str, None] = {}

    def add(self, spelled: str) -> None:
        """Take a value into account."""
        self.rows += _is_present(spelled)
        if self.values is not None:
            if spelled in self.values:
                return
            self.values[spelled] = None
            most = MANY_CATEGORIES if self.kind == "category" else CATEGORIES
            if len(self.values) > most + 1:  # the missing value is one more
                self.values = None
        if self._writes(spelled) or spelled in self.specials:
            return
        self.specials[spelled] = None
        if len(self.specials) > SPECIALS and isinstance(self.ordered, NumberCode):
            self.ordered.loose = True
            self.specials = {special: None for special in self.specials if not self._writes(special)}
        if len(self.specials) > SPECIALS:
            self.ordered = None

    def _writes(self, spelled: str) -> bool:
        """Return True if the code of numbers or dates has the value, and no special value is needed."""
        if isinstance(self.ordered, FloatingCode):
            if (extent := self.ordered.extent(spelled)) is not None:
                self.extents.add(extent)
            return extent is not None
        if isinstance(self.ordered, DateCode) and self.ordered.zoned and self.ordered.parts(spelled) is not None:
            zone = self.ordered.zone(spelled)
            if zone is not None and (zone in self.zones or len(self.zones) < SPECIALS):
                self.zones[zone] = None
                return True
        return self.ordered is None or self.ordered.encode(spelled) is not None

    def code(self) -> ColumnCode | None:
        """Return the code; None for a code of text."""
        few = self.values is not None and (
            self.kind in ("category", "boolean", "mixed")
            if self.ordered is None
            else len(self.values) <= FEW and self.rows >= REPEATED * sum(map(_is_present, self.values))
        )
        if few and self.values is not None:
            return ValueCode(sorted(self.values))
        if self.ordered is None:
            return None
        if isinstance(self.ordered, FloatingCode):
            return self.ordered.narrowed(self.extents, sorted(self.specials))
        return type(self.ordered).from_json(
            self.ordered.to_json() | {"specials": sorted(self.specials), "zones": sorted(self.zones)}
        )


def _is_present(spelled: str) -> bool:
    return bool(spelled) and spelled not in MISSING


def _ordered(description: Mapping[str, Any]) -> NumberCode | DateCode | None:
    """Return the code of numbers or dates of a column; None if it has no such values, or too wide a range."""
    kind = description["kind"]
    if kind in ("integer", "number") and "format" in description and description.get("low") is not None:
        form = NumberFormat.from_json(description["format"])
        ends = [decimal_of(description[end]) for end in ("low", "high")]
        if form.exponents or max(end.adjusted() + form.decimals[1] for end in ends) >= DIGITS:
            return floating_code(form, *ends)
        low, high = (end.scaleb(form.decimals[1]) for end in ends)
        return NumberCode(form, int(low.to_integral_value()), int(high.to_integral_value()))
    if kind in ("date", "time", "date-time"):
        low, high = (parts_of(description[end]) for end in ("low", "high"))
        return DateCode(description["form"], description["spellings"], low, high, ())
    return None


def column_codes(
    texts: Callable[[], Iterable[str]],
    template: RowTemplate,
    descriptions: Mapping[str, Mapping[str, Any]],
    train: Callable[[Iterable[str]], "Tokenizer"],
    first: int,
) -> tuple["Tokenizer", dict[str, ColumnCode]]:
    """Choose the code of each column of a template.

    Args:
        texts: reads the text of each row.
        template: template of the texts.
        descriptions: types of the columns, as `ColumnSurvey` describes them.
        train: trains a byte-level tokenizer on the values of columns of text.
        first: first id of the tokenizer that is part of a text; the ids before it are special tokens.

    Returns:
        The tokenizer, and the codes by column.
    """
    columns = {name: _Column(descriptions[name]) for name in template.columns}
    for text in texts():
        for name, value in (template.values(text) or {}).items():
            columns[name].add(value)
    found = {name: column.code() for name, column in columns.items()}
    free = [name for name, code in found.items() if code is None]

    def values() -> Iterable[tuple[str, str]]:
        for text in texts() if free else ():
            row = template.values(text) or {}
            yield from ((name, row[name]) for name in free if name in row)

    tokenizer = train(value for _, value in values())
    words = range(first, tokenizer.get_vocab_size())
    written = {name: TextCode(tokenizer, words) for name in free}
    for code in written.values():
        code.empty = False
    for name, value in values():
        written[name].empty |= not value
        written[name].longest = max(written[name].longest, len(written[name].encode(value)))
    return tokenizer, {name: code or written[name] for name, code in found.items()}
