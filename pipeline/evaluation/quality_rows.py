"""What `quality.py` finds: figures of samples beside those of held-out real text, and what its page draws and lists."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Estimate
from pipeline.evaluation.copies import Nearest

SECTIONS = ("fidelity", "coverage", "diversity", "copies", "membership", "usefulness")
CAUTION = (
    "The copies are a copy check and the membership figure is the success of one simple attack. No figure here is a "
    "privacy guarantee."
)


@dataclass(frozen=True)
class Row:
    """A figure of the samples beside that of held-out real text.

    Args:
        section: of `SECTIONS`.
        name: in `quality.json` and, below `quality/`, in `summary.json`.
        label: for people.
        better: when it is good.
        form: format specification of the values.
        synthetic: of the samples; None where it was not measured.
        real: of held-out text; None where it was not measured.
        missing: how to get what was not measured.
    """

    section: str
    name: str
    label: str
    better: str
    form: str
    synthetic: float | Estimate | None
    real: float | Estimate | None
    missing: str = ""


@dataclass
class Quality:
    """All figures, and what the page draws and lists."""

    rows: list[Row] = field(default_factory=list)
    found: dict[str, Nearest] = field(default_factory=dict)
    worst: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lengths: dict[str, np.ndarray] = field(default_factory=dict)
    losses: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The figures by section and name, `low` and `high` the bounds of an interval."""
        figures: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for row in self.rows:
            values = {"synthetic": _plain(row.synthetic), "held_out_real": _plain(row.real), "better": row.better}
            figures[row.section][row.name] = values | ({"missing": row.missing} if row.missing else {})
        return {"figures": figures, "notes": self.notes, "worst_cases": self.worst, "caution": CAUTION}

    def summary(self) -> dict[str, float]:
        """The figures as `summary.json` has them; those that were not measured are left out."""
        found = {}
        for row in self.rows:
            for suffix, value in (("", row.synthetic), ("_of_real_text", row.real)):
                if value is not None:
                    found[f"quality/{row.name}{suffix}"] = value.value if isinstance(value, Estimate) else value
        return found


def _plain(value: float | Estimate | None) -> Any:
    if not isinstance(value, Estimate):
        return value
    return {"value": value.value, "low": value.low, "high": value.high}
