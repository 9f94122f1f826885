"""The grammar of a table's rows: the tokens that may come next, so that every text that is generated is a row."""

import functools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pipeline.data.column_code import Allowed, ColumnCode
from pipeline.data.row_tokenizer import Field, RowTokenizer
from pipeline.data.text_code import TextCode

EQUAL = 1e-9  # differences of log weights that are rounding errors

Made = Callable[[int], list[int]]  # number of a text -> ids of a new value, its column's token in front
Permissions = Mapping[str, Any]  # condition on each of some columns, in the form of its code


class _Row:
    """State of one text.

    Args:
        fields: columns that are left, in the order in which they come.
        forced: ids that the text begins with.
        free: True if the model chooses the order of the columns.
        permitted: condition on the values of some columns.
    """

    def __init__(self, fields: Sequence[Field], forced: Sequence[int], free: bool, permitted: Permissions) -> None:
        self.left = list(fields)
        self.forced = deque(forced)
        self.free = free
        self.permitted = permitted
        self.field: Field | None = None
        self.prefix: list[int] = []

    @property
    def waits(self) -> bool:
        """True if some columns with a condition have no whole value yet."""
        return any(field.column in self.permitted for field in (*self.left, *((self.field,) if self.field else ())))

    def copy(self) -> "_Row":
        """Return a row in the same state."""
        made = _Row(self.left, self.forced, self.free, self.permitted)
        made.field, made.prefix = self.field, list(self.prefix)
        return made


class RowConstraint:
    """Constraint of B rows that are generated together; a `models.decoding.Constraint`.

    Args:
        grammar: grammar of the rows.
        orders: columns of each row, in the order in which they come.
        forced: ids that each row begins with, such as its label.
        free: True if the model chooses the order of the columns.
        numbers: number of each row among all samples.
        resampling: number of rows that go on after the columns with a condition, and a random number in [0, 1) for
            their choice; None if all go on.
        groups: group of each row, whose conditions hold for it; empty if the grammar has no groups. The rows of a
            group are chosen among themselves, so that each group keeps its number of rows.
        temperature: divides the logits before a token is drawn, and so those that rows are chosen by.

    Attributes:
        log_weights: sum over the conditioned tokens of each row of the log of the probability that the model gives to
            what the conditions permit.
        origins: for each row, the place of the one whose beginning it has, among those that go on: its latent is that
            row's.
    """

    def __init__(
        self,
        grammar: "RowGrammar",
        orders: Sequence[Sequence[str]],
        forced: Sequence[Sequence[int]],
        free: bool = False,
        numbers: Sequence[int] = (),
        resampling: tuple[int, float] | None = None,
        groups: Sequence[int] = (),
        temperature: float = 1.0,
    ) -> None:
        self._grammar, self._temperature = grammar, temperature
        fields = grammar.tokenizer.fields
        self._groups = groups or [0] * len(orders)
        conditions = {group: grammar.groups[group] if grammar.groups else {} for group in set(self._groups)}
        permitted = {group: {**grammar.permitted, **own} for group, own in conditions.items()}
        self._rows = [
            _Row([fields[name] for name in order], begin, free, permitted[group])
            for order, begin, group in zip(orders, forced, self._groups, strict=True)
        ]
        self._numbers = numbers or range(len(self._rows))
        self._resampling = resampling
        self.log_weights = [0.0] * len(self._rows)
        self.origins = list(range(len(self._rows)))

    def __len__(self) -> int:
        """Return the number of rows that go on."""
        return len(self._rows)

    @property
    def longest(self) -> int:
        """Largest number of tokens of a row, a label and the end token counted."""
        return self._grammar.longest

    def chosen(self) -> list[int] | None:
        """Choose the rows that go on, once all have their columns with a condition.

        A condition on several tokens cuts off possible values after some of them are drawn. The rows are therefore
        chosen in proportion to the probabilities that the model gave to what the conditions permit (sampling importance
        resampling, Rubin 1987).
        """
        if self._resampling is None or any(row.forced or row.waits for row in self._rows):
            return None
        count, start = self._resampling
        self._resampling = None
        places = [0] * count
        for group in set(self._groups):
            rows = [number for number, own in enumerate(self._groups) if own == group]
            weights = [self.log_weights[row] for row in rows]
            # The candidates of a row lie side by side, so that each place gets a row of its group.
            ends = [row * count // len(self._rows) for row in rows[:: len(self._rows) // count]]
            equal = len(ends) == len(rows) and max(weights) - min(weights) < EQUAL
            chosen = range(len(rows)) if equal else resampled(weights, len(ends), start)
            for end, place in zip(ends, chosen, strict=True):
                places[end] = rows[place]
        if places == list(range(len(self._rows))):
            return None
        self.origins = [place * count // len(self._rows) for place in places]
        self._rows = [self._rows[place].copy() for place in places]
        return places

    def apply(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Make all tokens impossible that do not continue a row; see `models.decoding.Constraint`."""
        masks = self._grammar.masks
        chosen, weighed = [], []
        for place, number in enumerate(rows):
            row = self._rows[number]
            chosen.append(masks.index(*self._allowed(row)))
            field = row.field
            if field is not None and field.column in row.permitted and not row.forced:
                weighed.append((place, number, masks.index(field, field.code.allowed(row.prefix))))
        allowed = masks.of(chosen, logits.device)
        if weighed:
            places = torch.tensor([place for place, _, _ in weighed], device=logits.device)
            possible = masks.of([index for _, _, index in weighed], logits.device)
            scores = logits[places].double() / self._temperature
            share = scores.masked_fill(~allowed[places], -torch.inf).logsumexp(dim=-1)
            share -= scores.masked_fill(~possible, -torch.inf).logsumexp(dim=-1)
            for (_, number, _), value in zip(weighed, share.tolist(), strict=True):
                self.log_weights[number] += value
        return logits.masked_fill(~allowed, -torch.inf)

    def _allowed(self, row: _Row) -> tuple[Field | None, Allowed]:
        """Return the column whose tokens are allowed, and these; ids for no column."""
        if row.forced:
            return None, (row.forced[0],)
        if row.field is not None and row.prefix and row.field.column in self._grammar.perhaps:
            assert isinstance(row.field.code, TextCode), "identifiers are texts"
            if self._grammar.presence_is_drawn(row.field.column, row.prefix):
                return row.field, (row.field.code.end,)
        if row.field is not None:
            return row.field, row.field.code.allowed(row.prefix, row.permitted.get(row.field.column))
        if not row.left:
            return None, (self._grammar.tokenizer.sep_id,)
        return None, tuple(field.marker for field in (row.left if row.free else row.left[:1]))

    def advance(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Take the chosen tokens into account; see `models.decoding.Constraint`."""
        for number, index in zip(rows, tokens, strict=True):
            row = self._rows[number]
            if row.forced:
                row.forced.popleft()
            if row.field is not None:
                token = row.field.from_id(index)
                assert token is not None, "a column has its own tokens alone"
                row.prefix.append(token)
                if not row.field.code.allowed(row.prefix):
                    row.field = None
                continue
            row.field = next((field for field in row.left if field.marker == index), None)
            if row.field is None:
                continue  # a label or the end
            row.left.remove(row.field)
            row.prefix = []
            made = None if row.field.column in self._grammar.perhaps else self._grammar.made.get(row.field.column)
            if not row.forced and made is not None:
                # Candidates of a row share a value; `drawn_again` gives each row that goes on its own.
                row.forced.extend(made(self._numbers[number * len(self._numbers) // len(self._rows)])[1:])


class _Masks:
    """Masks over the vocabulary, each made once.

    Args:
        size: number of tokens of the vocabulary.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[tuple[str | None, Allowed], int] = {}
        self._same: dict[tuple[int, str | None], tuple[Allowed, int]] = {}  # by identity, which is faster to compare
        self._masks: list[Tensor] = []
        self._stacked: Tensor | None = None

    def index(self, field: Field | None, allowed: Allowed) -> int:
        """Return the number of the mask of some tokens of a column, or of ids if there is no column."""
        name = None if field is None else field.column
        same = self._same.get((id(allowed), name))
        if same is not None and same[0] is allowed:
            return same[1]
        number = self._known.get((name, allowed))
        if number is None:
            mask = torch.zeros(self._size, dtype=torch.bool)
            mask[[token if field is None else field.to_id(token) for token in allowed]] = True
            number = self._known[name, allowed] = len(self._masks)
            self._masks.append(mask)
            self._stacked = None
        if len(allowed) > 16:  # short ones are made anew each time
            self._same[id(allowed), name] = allowed, number
        return number

    def of(self, numbers: Sequence[int], device: torch.device) -> Tensor:
        """Return the masks with some numbers: [S, V], bool, True for tokens that are allowed."""
        if self._stacked is None:
            self._stacked = torch.stack(self._masks).to(device)
        return self._stacked[torch.tensor(numbers, device=device)]


class RowGrammar:
    """Grammar of the rows of a table.

    Args:
        tokenizer: tokenizer of the rows.
        permitted: condition on the values of some columns, in the form of their codes; see `ColumnCode.allowed`.
        made: makes new values for some columns, such as identifiers.
        groups: conditions of each group of rows, in the same form, beside `permitted`.
        perhaps: columns with made values of which the model draws whether a row has one, and the missing values of
            each: the empty text, words such as `NA`. The model draws these as a whole, and of a present value the
            tokens up to the first that no missing one has; `drawn_again` puts the made value in its place.
    """

    def __init__(
        self,
        tokenizer: RowTokenizer,
        permitted: Mapping[str, Any] | None = None,
        made: Mapping[str, Made] | None = None,
        groups: Sequence[Permissions] = (),
        perhaps: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.tokenizer, self.permitted, self.made = tokenizer, dict(permitted or {}), dict(made or {})
        self.groups, self.perhaps = groups, dict(perhaps or {})
        codes = {name: tokenizer.fields[name].code for name in self.perhaps}
        self._missing = {name: [codes[name].encode(one) or [] for one in self.perhaps[name]] for name in codes}
        self.masks = _Masks(tokenizer.vocabulary_size)

    @property
    def longest(self) -> int:
        """Largest number of tokens of a row, a label and the end token counted."""
        return 2 + sum(1 + field.code.longest for field in self.tokenizer.fields.values()) + self._longer

    def presence_is_drawn(self, column: str, prefix: Sequence[int]) -> bool:
        """Return True if these tokens of a column in `perhaps` begin no missing value: the text has a value."""
        return not any(one[: len(prefix)] == list(prefix) for one in self._missing[column])

    @functools.cached_property
    def _longer(self) -> int:
        """Tokens by which the given texts of a row exceed the longest texts of their columns."""
        codes = {name: field.code for name, field in self.tokenizer.fields.items()}
        return max((sum(_excess(codes[name], one) for name, one in group.items()) for group in self.groups), default=0)

    def unordered(self, count: int, forced: Sequence[Sequence[int]] = ()) -> RowConstraint:
        """Return the constraint of rows whose columns come in any order that the model chooses."""
        names = list(self.tokenizer.fields)
        return RowConstraint(self, [names] * count, forced or [()] * count, free=True)

    def ordered(
        self,
        numbers: Sequence[int],
        forced: Sequence[Sequence[int]],
        seed: int,
        candidates: int = 1,
        start: float | None = None,
        groups: Sequence[int] = (),
        free: bool = False,
        temperature: float = 1.0,
    ) -> RowConstraint:
        """Return the constraint of whole rows, whose columns come in an order of their own.

        Columns with a condition come first, those of the row's group before others, so that the others are drawn given
        them; then others in random order, and at last those whose values are made, which say nothing of the others.

        Args:
            numbers: number of each row among all samples.
            forced: ids that each row begins with.
            seed: seed of the order.
            candidates: beginnings of each row, of which as many as there are rows go on.
            start: random number in [0, 1) that the choice depends on; None if all candidates go on.
            groups: group of each row; empty if the grammar has none.
            free: True if the model chooses the order, as for the latent of a row, which holds one.
            temperature: divides the logits before a token is drawn.
        """
        orders = []
        for place, number in enumerate(numbers):
            given = list(dict.fromkeys((*(self.groups[groups[place]] if groups else ()), *self.permitted)))
            others = [name for name in self.tokenizer.fields if name not in given and name not in self.made]
            mixed = random.Random(f"{seed} {number}").sample(others, len(others))
            orders += [[*given, *mixed, *self.made]] * candidates
        begun = [ids for ids in forced for _ in range(candidates)]
        grouped = [group for group in groups for _ in range(candidates)]
        resampling = None if start is None else (len(numbers), start)
        return RowConstraint(self, orders, begun, free, numbers, resampling, grouped, temperature)


def _excess(code: ColumnCode, permitted: Any) -> int:
    """Return by how many tokens the texts that a condition permits exceed the longest of the column."""
    if not isinstance(code, TextCode) or not isinstance(permitted, tuple):
        return 0
    texts = cast(tuple[tuple[int, ...], ...], permitted)
    return max(0, max(map(len, texts), default=0) - code.longest)


@functools.lru_cache(maxsize=4)
def grammar_of(tokenizer: RowTokenizer) -> RowGrammar:
    """Return the grammar of all rows of a tokenizer, without conditions; one for each tokenizer."""
    return RowGrammar(tokenizer)


def resampled(log_weights: Sequence[float], count: int, start: float) -> list[int]:
    """Choose candidates with probabilities in proportion to their weights (systematic resampling).

    Args:
        log_weights: log weight of each candidate.
        count: number of candidates to choose.
        start: random number in [0, 1).

    Returns:
        Numbers of the chosen candidates, in ascending order.
    """
    weights = torch.tensor(log_weights, dtype=torch.float64).softmax(dim=0)
    points = (torch.arange(count, dtype=torch.float64) + start) / count
    return torch.searchsorted(weights.cumsum(dim=0), points).clamp_max(len(log_weights) - 1).tolist()
