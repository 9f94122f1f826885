"""Rows of a table that lie near to training rows: near copies, and an attack by the distance to the nearest row."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pipeline.evaluation.table_frames import CATEGORY, TableTypes, features

Table = Any  # a pandas.DataFrame; the annotations of its methods leave too many types open

ROWS = 2000  # rows whose nearest rows are looked for
TRAINING_ROWS = 20_000  # training rows that near copies are looked for among
TOLERANCE = 0.01  # share of the range that equal numbers differ by at most
BLOCK = 256  # rows that are compared at a time, which bounds the memory
FLOOR = 1e-12


def near_copies(train: Table, rows: Table, types: TableTypes, seed: int) -> float | None:
    """Return the share of rows that differ from a training row in one column at most, copies included.

    Numbers and dates are equal if they differ by at most `TOLERANCE` of the training range.

    Args:
        train: real rows that the model learned from; `TRAINING_ROWS` of them at most are used.
        rows: synthetic rows, or held-out ones; `ROWS` of them at most are used.
        types: kinds of the columns.
        seed: seed of the choice of rows.

    Returns:
        The share in [0, 1]; None without rows, and for fewer than three columns.
    """
    if not len(train) or not len(rows) or len(types.kinds) < 3:
        return None
    some = rows.sample(min(len(rows), ROWS), random_state=seed)
    known = train.sample(min(len(train), TRAINING_ROWS), random_state=seed)
    least = [
        _total((gap > TOLERANCE).astype(np.float32) for gap in gaps).min(axis=1)
        for gaps in _gaps(some, known, types, train)
    ]
    return float((np.concatenate(least) <= 1).mean())


def membership(train: Table, held_out: Table, rows: Table, types: TableTypes, seed: int) -> float:
    """Return the area under the curve of an attack: training rows lie nearer to a synthetic row than others.

    Args:
        train: real rows that the model learned from.
        held_out: real rows that it did not.
        rows: synthetic rows.
        types: kinds of the columns.
        seed: seed of the choice of rows.

    Returns:
        0.5 if the distance tells nothing, 1 if it always does.
    """
    count = min(len(train), len(held_out), ROWS)
    if not count or not len(rows):
        return 0.5
    some = rows.sample(min(len(rows), ROWS), random_state=seed)
    distances = [
        nearest_distance(table.sample(count, random_state=seed), some, types, train) for table in (train, held_out)
    ]
    return float(roc_auc_score(np.repeat([1, 0], count), -np.concatenate(distances)))


def nearest_distance(rows: Table, others: Table, types: TableTypes, like: Table) -> np.ndarray:
    """Return the Gower distance of each row to the nearest of other rows: [rows], in [0, 1].

    Numbers count by their difference over the range of `like`, categories and missing values by equality.
    """
    least = [_total(gaps).min(axis=1) for gaps in _gaps(rows, others, types, like)]
    return np.concatenate(least) / max(len(types.kinds), 1)


def _gaps(rows: Table, others: Table, types: TableTypes, like: Table) -> Iterator[Iterator[np.ndarray]]:
    """Yield the distances of a block of rows to other rows, one column after the other: [block, others] in [0, 1]."""
    left, right, base = (
        {name: np.asarray(values) for name, values in features(table, types, like).items()}
        for table in (rows, others, like)
    )
    for start in range(0, len(rows), BLOCK):
        yield (
            _gap(left[name][start : start + BLOCK], right[name], base[name], kind == CATEGORY)
            for name, kind in types.kinds.items()
        )


def _total(gaps: Iterator[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.add, gaps)


def _gap(rows: np.ndarray, others: np.ndarray, base: np.ndarray, is_category: bool) -> np.ndarray:
    """Return the distances of values of a column: [rows, others] in [0, 1]."""
    a, b = rows[:, None], others[None, :]
    if is_category:
        gap = (a != b).astype(np.float32)
    else:
        known = base[~np.isnan(base)]
        spread = float(np.ptp(known)) if len(known) else 0.0
        gap = np.minimum(np.abs(a - b) / max(spread, FLOOR), 1.0).astype(np.float32)
    missing = np.isnan(a) | np.isnan(b)
    return np.where(missing, (np.isnan(a) != np.isnan(b)).astype(np.float32), gap)
