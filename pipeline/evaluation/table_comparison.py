"""Samples of a table beside its real rows, for the quality report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.dataset import PreparedData
from pipeline.data.row_template import RowTemplate
from pipeline.evaluation.table_fidelity import TableFidelity, table_fidelity
from pipeline.evaluation.table_frames import TableTypes


@dataclass(frozen=True)
class TableComparison:
    """Rows of a table and the figures of their comparison.

    Args:
        types: kinds of the columns.
        synthetic: samples, as `TableTypes.frame` returns them.
        real: training rows.
        fidelity: figures.
        rows: number of samples that are rows.
        held_out: number of held-out rows.
    """

    types: TableTypes
    synthetic: Any
    real: Any
    fidelity: TableFidelity
    rows: int
    held_out: int

    def note(self) -> str:
        """Say what was compared, and what was left out."""
        said = f"{self.rows:,} samples and {self.held_out:,} held-out rows are compared with the training rows."
        if self.fidelity.target is not None:
            said += f" The trees predict {self.fidelity.target!r}."
        if self.types.left_out:
            said += f" Columns of text and identifiers are left out: {', '.join(self.types.left_out)}."
        return said


def table_comparison(data: PreparedData, texts: Iterable[str]) -> TableComparison | None:
    """Compare samples with the rows of a table.

    Args:
        data: prepared data.
        texts: texts of the samples.

    Returns:
        The comparison; None for other texts than rows, and if there are no rows or columns to compare.
    """
    source: Mapping[str, Any] = data.statistics.get("source") or {}
    if source.get("row_template") is None:
        return None
    template = RowTemplate(source["row_template"], list(source["columns"]), "the data", source.get("lossless", False))
    types = TableTypes.of({name: source["columns"][name] for name in template.columns})
    found = [values for text in texts if (values := template.values(text)) is not None]
    real = {
        name: [values for text in split["text"] if (values := template.values(text)) is not None]
        for name, split in data.splits.items()
    }
    held_out = real["validation"] + real["test"]
    if not found or not types.kinds or not held_out:
        return None
    frames = [types.frame(rows) for rows in (real["train"], held_out, found)]
    fidelity = table_fidelity(frames[0], frames[1], frames[2], types)
    return TableComparison(types, frames[2], frames[0], fidelity, len(found), len(held_out))
