"""Results of `quality.py`: figures of samples beside those of held-out real text, and data for its page."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Estimate
from pipeline.evaluation.copies import Nearest
from pipeline.evaluation.table_comparison import TableComparison
from pipeline.experiments.metric_types import REAL_TEXT, Figure, QualityRow
from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.table_metrics import SECTION as TABLE

SECTIONS = (TABLE, "fidelity", "coverage", "diversity", "copies", "membership", "usefulness")
CAUTION = (
    "The copies are a copy check and the membership figure is the success of one simple attack. No figure here is a "
    "privacy guarantee."
)


@dataclass(frozen=True)
class Row:
    """A figure of the samples beside the same figure of held-out real text.

    Section, label, format and direction are declared in `pipeline.experiments.metrics`.

    Args:
        name: its name in `quality.json`; its key in `summary.json` is `quality/<name>`.
        synthetic: value of the samples; None if it was not measured.
        real: value of held-out text; None if it was not measured.
        missing: instruction for measuring the value, or the reason it cannot be measured.
        near: largest share of its tokens that may be edited in a near copy, for the labels that name it.
        similar: smallest cosine similarity of texts that are alike in meaning, for the labels that name it.
    """

    name: str
    synthetic: float | Estimate | None
    real: float | Estimate | None
    _: KW_ONLY
    missing: str = ""
    near: float = 0.0
    similar: float = 0.0

    @property
    def figure(self) -> Figure:
        """Declared figure in `summary.json`."""
        return FIGURES[f"quality/{self.name}"]

    @property
    def section(self) -> str:
        """Section of the report, one of `SECTIONS`."""
        return self._declared.section

    @property
    def label(self) -> str:
        """Name of the row for people."""
        return self._declared.label.format(near=self.near, rest=1 - self.near, similar=self.similar)

    @property
    def better(self) -> str:
        """Direction in which the value improves."""
        return self._declared.better

    @property
    def form(self) -> str:
        """Format specification of the values."""
        return self.figure.metric.form

    @property
    def _declared(self) -> QualityRow:
        declared = self.figure.metric.quality
        assert declared is not None, f"{self.name} is not declared as a row of the quality report"
        return declared


@dataclass
class Quality:
    """All figures of the report, and data for its page.

    Args:
        rows: figures in the order of the report.
        found: nearest training sentences of each text, by kind (`synthetic`, `real`).
        worst: sentences nearest to a training sentence, by kind.
        closest: texts nearest to a training text in meaning, by kind; empty without a sentence encoder.
        lengths: sentence lengths in tokens, by kind (`synthetic`, `real`, `train`).
        losses: cross-entropy of sentences in nats a token, by kind (`members`, `others`, `again`).
        notes: remarks by section.
        table: rows of a table; None for other texts.
    """

    rows: list[Row] = field(default_factory=list)
    found: dict[str, Nearest] = field(default_factory=dict)
    worst: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    closest: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lengths: dict[str, np.ndarray] = field(default_factory=dict)
    losses: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    table: TableComparison | None = None

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections of the report; that of a table is for rows alone."""
        return tuple(section for section in SECTIONS if section != TABLE or self.table is not None)

    def as_json(self) -> dict[str, Any]:
        """Return the content of `quality.json`: figures by section and name, notes and worst cases.

        A figure with an interval is a record of `value`, `low` and `high`.
        """
        figures: dict[str, dict[str, Any]] = {section: {} for section in self.sections}
        for row in self.rows:
            values = {"synthetic": _plain(row.synthetic), "held_out_real": _plain(row.real), "better": row.better}
            figures[row.section][row.name] = values | ({"missing": row.missing} if row.missing else {})
        cases = {"worst_cases": self.worst, "closest_in_meaning": self.closest}
        return {"figures": figures, "notes": self.notes, **cases, "caution": CAUTION}

    def summary(self) -> dict[str, float | int | str | None]:
        """Return the measured figures by their keys in `summary.json`, without intervals."""
        found: dict[str, float | int | str | None] = {}
        for row in self.rows:
            for suffix, value in (("", row.synthetic), (REAL_TEXT, row.real)):
                if value is not None:
                    found[row.figure.key + suffix] = value.value if isinstance(value, Estimate) else value
        return found


def _plain(value: float | Estimate | None) -> Any:
    """Turn an estimate into a record for JSON."""
    if not isinstance(value, Estimate):
        return value
    return {"value": value.value, "low": value.low, "high": value.high}
