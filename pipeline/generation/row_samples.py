"""Samples of a table: every text is a row, and holds what was asked of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.decoding import Decoding
from models.latent import Latent
from models.sampling import SamplingSettings
from pipeline.data.column_code import ColumnCode, ValueCode
from pipeline.data.column_types import RejectedError
from pipeline.data.conditions import ColumnCondition, parse_where
from pipeline.data.constraints import Constraints, Unique, read_constraints
from pipeline.data.row_conditions import permitted
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.data.text_code import PRESENT, TextCode
from pipeline.data.writers import LABEL, TableForm
from pipeline.experiments.load import Experiment
from pipeline.generation.balance import Balance
from pipeline.generation.incomplete_rows import IncompleteRows
from pipeline.generation.new_identifiers import NewIdentifiers, new_identifiers
from pipeline.generation.row_grammar import RowConstraint, RowGrammar
from pipeline.runtime.errors import UserError

CANDIDATES = 64  # beginnings of rows with the same conditions that are drawn together at least
BEGINNINGS = 4096  # beginnings of a batch of rows with different members at most, unless it has more rows
ROUNDS = 100  # rounds in which samples are drawn again whose columns of text make them no rows


@dataclass(frozen=True)
class RowDraws:
    """How the rows of a table are drawn.

    Args:
        grammar: grammar of the rows.
        seed: seed of the columns' order.
        conditions: conditions by column.
        form: form of the rows.
        constraints: constraints between columns.
        known: keys of the data that no sample may have, for each of the constraints' keys.
        makers: makers of new identifiers, by column.
        balance: member of a column that each sample has; None if the model draws it.
        incomplete: rows of a file, one for each sample, whose values it has; None if all are drawn.
        free: True if the model chooses the order of the columns, because a latent is that of a row, in its order.
    """

    grammar: RowGrammar
    seed: int
    conditions: Mapping[str, ColumnCondition]
    form: TableForm
    constraints: Constraints = field(default_factory=Constraints)
    known: tuple[set[tuple[str, ...]], ...] = ()
    makers: Mapping[str, NewIdentifiers] = field(default_factory=dict)
    balance: Balance | None = None
    incomplete: IncompleteRows | None = None
    free: bool = False

    @staticmethod
    def of(experiment: Experiment, settings: SamplingSettings, attempt: int = 0) -> "RowDraws | None":
        """Return how the rows of an experiment are drawn; None if its data are no rows with tokens of their own.

        Raises:
            UserError: settings that rows do not have, or conditions that nothing satisfies.
        """
        tokenizer, source = experiment.data.tokenizer, experiment.data.statistics.get("source") or {}
        if not isinstance(tokenizer, RowTokenizer):
            for name in ("where", "constraints", "balance", "impute"):
                if getattr(settings, name) is not None:
                    raise UserError(
                        f"--{name.upper()} is for the rows of a table; prepare one with --ROW_TEMPLATE and --TOKENIZER "
                        "table"
                    )
            return None
        if settings.decoding == "beam":
            raise UserError("beam search is not for the rows of a table; take --DECODING sample, or greedy")
        for name in ("min_length", "max_length"):
            if getattr(settings, name) is not None:
                raise UserError(f"--{name.upper()} means nothing for the rows of a table, which have all columns")
        conditions = {} if settings.where is None else parse_where(settings.where, source["columns"])
        constraints = Constraints()
        if settings.constraints is not None:
            constraints = read_constraints(Path(settings.constraints), source["columns"])
        if not experiment.data.splits and any(one.new for one in constraints.unique):
            raise UserError(
                f"{settings.constraints} asks for values that the data lack ('new'), and a shared model does not hold "
                "its data; load the experiment with load_experiment, or leave 'new' out"
            )
        for own in constraints.where:
            for name, condition in own.items():
                conditions[name] = conditions[name].both(condition) if name in conditions else condition
                conditions[name].check()
        if conditions and settings.top_p < 1.0:
            raise UserError(
                f"--TOP_P {settings.top_p:g} cuts off values that a condition of --WHERE or --CONSTRAINTS may need; "
                "leave --TOP_P out"
            )
        if unknown := [name for name in conditions if name not in tokenizer.fields]:
            raise UserError(f"--WHERE names {unknown[0]!r}, which is no column of the row template")
        chosen = {
            name: permitted(condition, tokenizer.fields[name].code, source["columns"][name])
            for name, condition in conditions.items()
        }
        made = {
            name: maker
            for name, maker in new_identifiers(experiment.data, settings.seed, attempt).items()
            if chosen.get(name) in (None, PRESENT)
        }
        # A new value is none of the excluded ones, which are values of the data.
        chosen = {name: one for name, one in chosen.items() if name not in made}
        perhaps = {
            name: missing
            for name in made
            if name not in conditions and (missing := _missing(tokenizer.fields[name].code, source["columns"][name]))
        }
        balance, incomplete, groups = None, None, []
        if (name := settings.balance) is not None:
            balance = Balance.of(experiment.data, name, settings.count, settings.seed, conditions.get(name))
            chosen.pop(name, None)
            code = tokenizer.fields[name].code
            assert isinstance(code, ValueCode), "a balanced column has members"
            groups = balance.conditions(code)
        elif settings.impute is not None:
            incomplete = IncompleteRows.read(experiment, Path(settings.impute), conditions)
            # The value of a made column that a row gives is put in its place; see `drawn_again`.
            groups = [{name: one for name, one in own.items() if name not in made} for own in incomplete.groups]
        known = tuple(_keys(experiment, tokenizer, one) if one.new else set() for one in constraints.unique)
        if incomplete is not None:
            incomplete.check(constraints, known)
        grammar = RowGrammar(tokenizer, chosen, made, groups, perhaps)
        form, free = TableForm(source), settings.near is not None or settings.mix is not None
        free = free or settings.prior == "learned"
        return RowDraws(grammar, settings.seed, conditions, form, constraints, known, made, balance, incomplete, free)

    @property
    def asked(self) -> Balance | IncompleteRows | None:
        """What each sample has of its own: a member of a column, or the values of a row."""
        return self.incomplete if self.balance is None else self.balance

    def begin(
        self,
        experiment: Experiment,
        latent: Latent | None,
        numbers: Sequence[int],
        labels: Sequence[str] | None,
        decoding: Decoding,
        generator: torch.Generator,
    ) -> tuple[Latent | None, RowConstraint]:
        """Return what the rows are drawn with: for few rows with conditions, several candidates of each.

        Args:
            experiment: model and tokenizer.
            latent: latents of the rows; None for a language model.
            numbers: number of each row among all samples.
            labels: label of each row; None if the data has no labels.
            decoding: method that chooses the tokens.
            generator: source of randomness.

        Returns:
            The latents, one for each candidate, and the constraint of the rows.
        """
        tokenizer = self.grammar.tokenizer
        forced = [[] if labels is None else [tokenizer.labels[labels[place]]] for place in range(len(numbers))]
        groups = [] if self.asked is None else [self.asked.order[number] for number in numbers]
        # Without latents, labels and other conditions, candidates of a member, or of given values, have equal weights.
        weighed = self.grammar.permitted or (groups and latent is not None)
        weighed = weighed or (self.balance is not None and len(set(labels or ())) > 1)
        weighed = weighed or (self.incomplete is not None and any(map(self.incomplete.drawn, numbers)))
        if not weighed or decoding.method != "sample":
            return latent, self.grammar.ordered(numbers, forced, self.seed, groups=groups, free=self.free)
        candidates = max(1, -(-CANDIDATES * max(1, len(set(groups))) // len(numbers)))
        candidates = min(candidates, max(1, BEGINNINGS // len(numbers)))
        start = float(torch.rand((), generator=generator, device=generator.device))
        if latent is not None and candidates > 1:
            latent = latent.select(torch.arange(len(numbers), device=experiment.device).repeat_interleave(candidates))
        heat = decoding.temperature
        return latent, self.grammar.ordered(numbers, forced, self.seed, candidates, start, groups, self.free, heat)

    def checked(
        self,
        rows: Sequence[dict[str, Any]],
        places: Sequence[int],
        numbers: Sequence[int],
        kept: Sequence[Mapping[str, str]] = (),
    ) -> list[int]:
        """Compute the columns with a formula, and return the places of samples to draw again.

        Args:
            rows: all samples; those of the places get their computed columns.
            places: places of the samples that were drawn last.
            numbers: number of each sample.
            kept: values of samples drawn before, whose keys no sample may have.
        """
        wrong = [place for place in places if not self._completed(rows[place], numbers[place])]
        left = set(wrong)
        for unique, known in zip(self.constraints.unique, self.known, strict=True):
            latest, taken = set(places), known | {unique.key(values) for values in kept}
            for place in (*(one for one in range(len(rows)) if one not in latest), *places):
                if place in left:
                    continue
                key = unique.key(self.grammar.tokenizer.template.values(rows[place]["text"]) or {})
                if key in taken:
                    left.add(place)
                taken.add(key)
        return sorted(left)

    def _completed(self, row: dict[str, Any], number: int) -> bool:
        template = self.grammar.tokenizer.template
        values = template.values(row["text"])
        values = None if values is None else self.constraints.completed(values)
        if values is None or not self.constraints.holds(values):
            return False
        if not all(one.permits(values[name]) for name, one in self.conditions.items()):
            return False
        if self.asked is not None and not self.asked.holds(number, values):
            return False
        row["text"] = template.text(values)
        try:
            self.form.row({"text": row["text"], LABEL: row.get(LABEL)})
        except RejectedError:
            return False
        return True


def _missing(code: ColumnCode, description: Mapping[str, Any]) -> list[str]:
    """Return the missing values that a column of texts has, the empty text or words such as `NA`."""
    empty = [""] if isinstance(code, TextCode) and code.empty else []
    return [*empty, *description.get("missing", ())]


def _keys(experiment: Experiment, tokenizer: RowTokenizer, unique: Unique) -> set[tuple[str, ...]]:
    """Return the keys of all rows of the data."""
    rows = (tokenizer.template.values(text) for split in experiment.data.splits.values() for text in split["text"])
    return {unique.key(row) for row in rows if row is not None}


def drawn_again(
    rows: list[dict[str, Any]],
    draws: RowDraws,
    numbers: Sequence[int],
    draw: Callable[[list[int], int], list[dict[str, Any]]],
    kept: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Draw samples again in place of those that are no rows or break a constraint, in at most `ROUNDS` rounds.

    Only columns of text can make a sample no row: a text may hold the words behind its column. Drawing again leaves
    the distribution of the rows that satisfy the constraints as the model has it.

    Args:
        rows: samples.
        draws: how they were drawn.
        numbers: number of each sample.
        draw: draws samples with some numbers again, given the number of the round.
        kept: samples drawn before, whose identifiers and keys the rows may not have.

    Raises:
        UserError: after all rounds, some samples still break a constraint or a condition.
    """
    template = draws.grammar.tokenizer.template
    before = [values for text in kept if (values := template.values(text)) is not None]
    perhaps = draws.grammar.perhaps
    given = () if draws.incomplete is None else draws.incomplete.given
    taken = [*before, *given]
    own = {name: maker.fresh(one[name] for one in taken if name in one) for name, maker in draws.makers.items()}

    def named(places: Iterable[int]) -> None:
        """Give each row its own identifiers, in the order of the samples, so that all processes give the same ones.

        Given values come as their file spells them.
        """
        for place in places if own or given else ():
            if (values := template.values(rows[place]["text"])) is not None:
                number = numbers[place]
                wanted = frozenset[str]() if draws.incomplete is None else draws.incomplete.opened[number]
                present = [name for name in own if values[name] not in perhaps.get(name, ()) or name in wanted]
                held = dict(given[number]) if given else {}
                identifiers = {name: own[name].value(number) for name in present if name not in held}
                rows[place]["text"] = template.text(values | identifiers | held)

    named(range(len(rows)))
    wrong = draws.checked(rows, range(len(rows)), numbers, before)
    for attempt in range(1, ROUNDS + 1):
        if not wrong:
            return rows
        again = draw([numbers[place] for place in wrong], attempt)
        for place, row in zip(wrong, again, strict=True):
            rows[place] = row
        named(wrong)
        wrong = draws.checked(rows, wrong, numbers, before)
    if wrong and draws.constraints != Constraints():
        raise UserError(
            f"--CONSTRAINTS: {len(wrong):,} of {len(rows):,} samples still break a constraint after {ROUNDS} draws; "
            "the model hardly draws such rows: check the constraints against the data, or ask for fewer samples"
        )
    if wrong and (draws.conditions or draws.asked is not None):
        raise UserError(
            f"{len(wrong):,} of {len(rows):,} samples are no rows that satisfy --WHERE, --BALANCE or --IMPUTE after "
            f"{ROUNDS} draws; train the model for longer, or leave the condition on columns of text out"
        )
    return rows
