"""Fidelity of synthetic rows, as the field reports it: SDMetrics' scores, detection, efficacy, copies.

Shapes and trends are SDMetrics' (https://docs.sdv.dev/sdmetrics): Kolmogorov-Smirnov and total variation complements of
each column, correlation and contingency similarities of each pair. All scores lie in [0, 1], 1 is best.
"""

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
from sdmetrics.errors import ConstantInputError
from sdmetrics.reports import QualityReport
from sdmetrics.single_column import BoundaryAdherence, CategoryCoverage, RangeCoverage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from pipeline.evaluation.near_rows import membership, near_copies
from pipeline.evaluation.table_efficacy import LEAST, efficacy, is_classes, target_column
from pipeline.evaluation.table_frames import CATEGORY, TableTypes, features, known_columns

Table = Any  # a pandas.DataFrame; the annotations of its methods leave too many types open

TABLE = "table"  # name in the reports of SDMetrics
FOLDS = 3


@dataclass(frozen=True)
class TableFidelity:
    """Figures of synthetic rows beside those of held-out real rows.

    Args:
        figures: value by name.
        held_out: the same of held-out rows in place of synthetic ones.
        columns: shape score by column.
        left_out: columns that are not compared.
        target: column that is predicted for the efficacy; None if no column can be.
    """

    figures: dict[str, float]
    held_out: dict[str, float]
    columns: dict[str, float]
    left_out: list[str] = field(default_factory=list)
    target: str | None = None


def table_fidelity(
    train: Table,
    held_out: Table,
    synthetic: Table,
    types: TableTypes,
    seed: int = 0,
    target: str | None = None,
) -> TableFidelity:
    """Compare synthetic rows with real ones.

    Args:
        train: real rows that a model learned from, as `TableTypes.frame` returns them.
        held_out: real rows that it did not.
        synthetic: rows of the model.
        types: kinds of the columns.
        seed: seed of classifiers and choices of rows.
        target: column to predict for the efficacy; the default is the last column with 2 to 20 values, or
            else the last number.

    Returns:
        `table_shapes`, `table_trends`, `table_detection`, `table_coverage`, `table_boundaries`, `table_copies`,
        `table_membership` (the area under the curve of an attack by the distance to the nearest synthetic row), and
        `table_efficacy` (the area under the ROC curve, or R²) with `table_f1` if the target has classes, and
        `table_near_copies`.
    """
    target = target_column(train, types) if target is None else target
    shown = [_figures(train, held_out, rows, types, seed) for rows in (synthetic, held_out)]
    # More rows teach more, so the real trees learn from as many.
    learners = synthetic, train.sample(min(len(train), len(synthetic)), random_state=seed)
    classes = target is not None and is_classes(train, types, target)
    learned = [efficacy(rows, held_out, types, target, seed, classes) for rows in learners]
    columns = shown[0].pop("columns")
    shown[1].pop("columns")
    own, real = shown
    for figures, value in zip((own, real), learned, strict=True):
        figures |= value
    return TableFidelity(own, real, columns, types.left_out, target)


def _figures(train: Table, held_out: Table, rows: Table, types: TableTypes, seed: int) -> dict[str, Any]:
    found, columns = _report(train, rows, types)
    found |= _limits(train, rows, types)
    known = set(map(tuple, train.astype(str).to_numpy()))
    found["table_copies"] = float(np.mean([tuple(row) in known for row in rows.astype(str).to_numpy()]))
    found |= {} if (near := near_copies(train, rows, types, seed)) is None else {"table_near_copies": near}
    detected = detection(train if rows is held_out else _some(held_out, train, len(rows)), rows, types, seed)
    found |= {} if detected is None else {"table_detection": detected}
    # Held-out rows are attacked by one half of them in place of synthetic rows.
    attack = (held_out, rows) if rows is not held_out else (held_out[::2], held_out[1::2])
    found["table_membership"] = membership(train, *attack, types, seed)
    return found | {"columns": columns}


def _report(real: Table, rows: Table, types: TableTypes) -> tuple[dict[str, float], dict[str, float]]:
    """Return shapes and trends, and the shape of each column."""
    real, rows = types.with_days(real), types.with_days(rows)
    report = QualityReport()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate({TABLE: real}, {TABLE: rows}, {"tables": {TABLE: types.metadata()}}, verbose=False)
        scores: Any = report.get_properties().set_index("Property")["Score"]
        details: Any = report.get_details("Column Shapes")
        columns = details.set_index("Column")["Score"].to_dict()
        found = {"table_shapes": float(scores["Column Shapes"]), "table_trends": trends(real, rows, types)}
    return {name: value for name, value in found.items() if np.isfinite(value)}, columns


def trends(real: Table, rows: Table, types: TableTypes) -> float:
    """Return the mean of SDMetrics' similarities over all pairs of columns; NaN if no pair has one.

    Numbers beside categories fall into ten parts of the real column's range, in both tables. The quality report of
    SDMetrics 0.32 divides each table by its own range, so that one outlier moves all parts of one of them: real rows
    beside real ones have 0.64 for the pairs with a category of ggplot2's diamonds, and 0.98 with the same parts.

    Args:
        real: real rows, with dates as days.
        rows: rows that are compared with them, in the same form.
        types: kinds of the columns.
    """
    scores = [_similarity(real[list(pair)], rows[list(pair)], types) for pair in itertools.combinations(types.kinds, 2)]
    known = [score for score in scores if np.isfinite(score)]
    return float(np.mean(known)) if known else math.nan


def _similarity(real: Table, rows: Table, types: TableTypes) -> float:
    """Return the similarity of a pair of columns; NaN if it has none, as where a number is constant or missing."""
    numbers = [name for name in real.columns if types.kinds[name] != CATEGORY]
    try:
        if len(numbers) == 2:
            return CorrelationSimilarity.compute(real, rows)
        return ContingencySimilarity.compute(real, rows, continuous_column_names=numbers)
    except (ConstantInputError, ValueError):
        return math.nan


def _limits(real: Table, rows: Table, types: TableTypes) -> dict[str, float]:
    """Return the coverage of real values, and the share of numbers and dates within the real range."""
    real, rows = types.with_days(real), types.with_days(rows)
    covered, inside = [], []
    for name, kind in types.kinds.items():
        if not real[name].notna().any() or not rows[name].notna().any():
            continue
        metric = CategoryCoverage if kind == CATEGORY else RangeCoverage
        value = float(metric.compute(real[name], rows[name]))
        if not math.isnan(value):  # of a column with a single value there is no range to cover
            covered.append(max(0.0, value))
        if kind != CATEGORY:
            inside.append(float(BoundaryAdherence.compute(real[name], rows[name])))
    found = {"table_coverage": float(np.mean(covered))} if covered else {}
    return found | ({"table_boundaries": float(np.nanmean(inside))} if inside else {})


def detection(real: Table, rows: Table, types: TableTypes, seed: int) -> float | None:
    """Return how well synthetic rows hide among real ones: `2 (1 - max(AUC, 1/2))` of a boosted-tree classifier.

    Args:
        real: real rows; as many as there are synthetic ones are used.
        rows: synthetic rows.
        types: kinds of the columns.
        seed: seed of the folds and the classifier.

    Returns:
        1 if the classifier cannot tell them apart, 0 if it always can; None for fewer than `LEAST` rows.
    """
    count = min(len(real), len(rows))
    if count < LEAST:
        return None
    both = [table.sample(count, random_state=seed) for table in (real, rows)]
    data = known_columns(pd.concat([features(table, types, real) for table in both], ignore_index=True))
    answers = np.repeat([0, 1], count)
    # Another seed than that of the rows: one permutation twice would divide rows by their place in the files.
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed + 1)
    model = HistGradientBoostingClassifier(random_state=seed)
    chances = np.asarray(cross_val_predict(model, data, answers, cv=folds, method="predict_proba"))[:, 1]
    return 2.0 * (1.0 - max(0.5, float(roc_auc_score(answers, chances))))


def _some(held_out: Table, train: Table, count: int) -> Table:
    """Return held-out rows if there are enough for a comparison with `count` rows, otherwise training rows."""
    return held_out if len(held_out) >= count else train


def spelled(rows: Table) -> list[Mapping[str, str]]:
    """Return the rows of a frame of strings, as `pandas.read_csv(dtype=str, keep_default_na=False)` reads them."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
