"""Efficacy of synthetic rows for learning: train boosted trees on them, test the trees on real rows."""

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from pipeline.evaluation.table_frames import CATEGORY, NUMBER, TableTypes, features, known_columns

Table = Any  # a pandas.DataFrame; the annotations of its methods leave too many types open

CLASSES = 20  # values of a target for classification at most, unless it is a category
LEAST = 10  # rows that each comparison needs


def target_column(train: Table, types: TableTypes) -> str | None:
    """Return the column to predict: the last one with 2 to `CLASSES` values, otherwise the last number."""
    few = [name for name in types.kinds if 2 <= train[name].nunique() <= CLASSES]
    numbers = [name for name, kind in types.kinds.items() if kind == NUMBER and train[name].nunique() > 1]
    return (few or numbers or [None])[-1] if len(types.kinds) > 1 else None


def is_classes(train: Table, types: TableTypes, target: str) -> bool:
    """Return True if a column is predicted by classification: a category, or one of at most `CLASSES` values."""
    return types.kinds[target] == CATEGORY or train[target].nunique() <= CLASSES


def efficacy(
    rows: Table, test: Table, types: TableTypes, target: str | None, seed: int, classes: bool
) -> dict[str, float]:
    """Train boosted trees on rows, and test them on real ones (train on synthetic, test on real).

    Args:
        rows: rows to train on.
        test: real rows.
        types: kinds of the columns.
        target: column to predict; None for no figures.
        seed: seed of the trees.
        classes: predict classes; otherwise a number or date.

    Returns:
        For classes, `table_efficacy`, the area under the ROC curve, and `table_f1`, both averaged over the classes by
        their frequency. Otherwise `table_efficacy`, R², at least 0. Empty if there are fewer than `LEAST` rows.
    """
    if target is None:
        return {}
    rows, test = rows[rows[target].notna()], test[test[target].notna()]
    if len(rows) < LEAST or len(test) < LEAST:
        return {}
    others = [name for name in types.kinds if name != target]
    inputs = known_columns(features(rows[others], types, rows))
    tested = features(test[others], types, rows)[list(inputs)]
    if not classes:
        learned, wanted = (features(table[[target]], types, rows)[target].to_numpy() for table in (rows, test))
        guessed = np.full(len(wanted), learned.mean())
        if len(inputs.columns):
            guessed = HistGradientBoostingRegressor(random_state=seed).fit(inputs, learned).predict(tested)
        return {"table_efficacy": max(0.0, float(r2_score(wanted, guessed)))}
    learned, wanted = (table[target].astype(str).to_numpy() for table in (rows, test))
    known, counts = np.unique(learned, return_counts=True)
    if len(known) < 2 or not len(inputs.columns):
        guessed = np.full(len(wanted), known[counts.argmax()])
        return {"table_efficacy": 0.5, "table_f1": _f1(wanted, guessed)}
    # Early stopping sets rows aside class by class, which fails for a class of one row.
    stops: Any = "auto" if counts.min() > 1 else False
    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=stops).fit(inputs, learned)
    chances = np.asarray(model.predict_proba(tested))
    found = {"table_f1": _f1(wanted, model.classes_[chances.argmax(axis=1)])}
    areas, weights = [], []
    for value in np.unique(wanted):
        is_it = wanted == value
        if is_it.all():
            continue
        place = np.flatnonzero(model.classes_ == value)
        areas.append(float(roc_auc_score(is_it, chances[:, place[0]])) if len(place) else 0.5)
        weights.append(int(is_it.sum()))
    return found | ({"table_efficacy": float(np.average(areas, weights=weights))} if areas else {})


def _f1(wanted: np.ndarray, guessed: np.ndarray) -> float:
    return float(f1_score(wanted, guessed, average="weighted"))
