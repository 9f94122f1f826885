"""Samples of a table beside its real rows, for the quality report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data.dataset import PreparedData
from pipeline.data.row_template import RowTemplate
from pipeline.evaluation.table_frames import LARGEST, TableTypes
from pipeline.runtime.errors import UserError

SEED = 0  # of the choices of rows, and of the classifiers

if TYPE_CHECKING:
    from pipeline.evaluation.table_fidelity import TableFidelity


@dataclass(frozen=True)
class TableComparison:
    """Rows of a table and the figures of their comparison.

    Args:
        types: kinds of the columns.
        synthetic: samples, as `TableTypes.frame` returns them.
        real: training rows.
        fidelity: figures.
        rows: number of samples that are compared, and of held-out rows.
        learned: number of training rows.
        no_rows: number of samples that are no rows, which are not compared.
    """

    types: TableTypes
    synthetic: Any
    real: Any
    fidelity: "TableFidelity"
    rows: int
    learned: int
    no_rows: int

    def note(self) -> str:
        """Say what was compared, and what was left out."""
        said = (
            f"{self.rows:,} samples and as many held-out rows (validation and test splits) are compared with the "
            f"{self.learned:,} training rows."
        )
        if self.no_rows:
            said += f" Samples that are no rows of the table, and are left out: {self.no_rows:,}."
        if self.fidelity.target is not None:
            said += f" The trees predict {self.fidelity.target!r}."
        if large := self.types.with_large_numbers(self.real, self.synthetic):
            said += f" Numbers beyond {LARGEST:g} count as that, in {', '.join(large)}."
        if self.types.left_out:
            said += f" Columns of text and identifiers are left out: {', '.join(self.types.left_out)}."
        return said


def check_target(data: PreparedData, target: str) -> None:
    """Check that trees can predict a column.

    Raises:
        UserError: the data are no rows of a table, or no column with this name is compared.
    """
    if (template := _template(data)) is None:
        raise UserError(
            f"--TARGET_COLUMN {target}: the data are no rows of a table; leave the flag out, or prepare a table "
            "with --ROW_TEMPLATE"
        )
    kinds = _types(data, template).kinds
    if target not in kinds:
        known = ", ".join(kinds) or "none"
        raise UserError(
            f"--TARGET_COLUMN {target}: name a column of numbers, dates or categories; the table has {known}"
        )
    if len(kinds) == 1:
        raise UserError(f"--TARGET_COLUMN {target}: the table has no other column to predict it from")


def table_comparison(data: PreparedData, texts: Iterable[str], target: str | None = None) -> TableComparison | None:
    """Compare samples with as many held-out rows of a table.

    More rows have more of a table's values, so that figures of different numbers of rows cannot be compared.

    Args:
        data: prepared data.
        texts: texts of the samples.
        target: column that trees predict, as `check_target` accepts it; None to choose one.

    Returns:
        The comparison; None for other texts than rows, and if there are no rows or columns to compare.
    """
    if (template := _template(data)) is None:
        return None
    types = _types(data, template)
    read = [template.values(text) for text in texts]
    found = [values for values in read if values is not None]
    real = {
        name: [values for text in split["text"] if (values := template.values(text)) is not None]
        for name, split in data.splits.items()
    }
    held_out = real["validation"] + real["test"]
    if not found or not types.kinds or not held_out:
        return None
    train, others, own = (types.frame(rows) for rows in (real["train"], held_out, found))
    count = min(len(found), len(held_out))
    some = [table.sample(count, random_state=SEED).reset_index(drop=True) for table in (others, own)]
    # Loads scikit-learn, which texts that are no rows do without.
    from pipeline.evaluation.table_fidelity import table_fidelity

    fidelity = table_fidelity(train, some[0], some[1], types, SEED, target)
    return TableComparison(types, own, train, fidelity, count, len(train), len(read) - len(found))


def _template(data: PreparedData) -> RowTemplate | None:
    """Return the row template of a table, None for other texts."""
    source: Mapping[str, Any] = data.statistics.get("source") or {}
    if source.get("row_template") is None:
        return None
    return RowTemplate(source["row_template"], list(source["columns"]), "the data", source.get("lossless", False))


def _types(data: PreparedData, template: RowTemplate) -> TableTypes:
    columns = data.statistics["source"]["columns"]
    return TableTypes.of({name: columns[name] for name in template.columns})
