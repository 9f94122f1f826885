"""Plots of a table in the quality report: each column, and the correlations of numbers and dates."""

import html
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_datetime64_any_dtype

from pipeline.evaluation.quality_rows import Quality
from pipeline.evaluation.table_comparison import TableComparison
from pipeline.evaluation.table_frames import CATEGORY, DATE
from pipeline.runtime.plotting import inline_svg

BLUE, RED = "#4477aa", "#cc6677"
BINS = 30
MEMBERS = 25  # most frequent members of a category that are shown
COLUMNS = 40  # columns that are plotted
NAME = 14  # characters of a column's name beside a matrix


def table_plots(quality: Quality) -> list[str]:
    """Plot the distribution of each column and the correlation matrices; nothing for other texts."""
    compared = quality.table
    if compared is None:
        return []
    parts = []
    for name in list(compared.types.kinds)[:COLUMNS]:
        score = compared.fidelity.columns.get(name)
        shown = "" if score is None or np.isnan(score) else f" <small>shape {score:.3f}</small>"
        parts += [f"<h3>{html.escape(name)}{shown}</h3>", _column(compared, name)]
    if len(ordered := _ordered(compared)) > 1:
        parts.append("<h3>Correlations of numbers and dates</h3>")
        real, own = (_correlations(table[ordered]) for table in (compared.real, compared.synthetic))
        for title, matrix in (("real", real), ("synthetic", own), ("synthetic less real", own - real)):
            parts.append(_matrix(title, matrix, ordered))
    return parts


def _ordered(compared: TableComparison) -> list[str]:
    """Columns whose values have an order: numbers and dates."""
    return [name for name, kind in compared.types.kinds.items() if kind != CATEGORY][:COLUMNS]


def _correlations(table: pd.DataFrame) -> np.ndarray:
    """Pearson's correlations of the columns; a date counts as its time."""
    numbers = {}
    for name, values in table.items():
        if is_datetime64_any_dtype(values):
            values = values.astype("datetime64[s]").astype("int64").where(values.notna())
        numbers[name] = values
    return np.asarray(pd.DataFrame(numbers).corr(), dtype=float)


def _column(compared: TableComparison, name: str) -> str:
    """Bars of a category, or histograms of a number or date."""
    tables = {"synthetic": compared.synthetic[name], "real": compared.real[name]}

    def members(axes: Axes) -> None:
        shares = {kind: values.fillna("(missing)").value_counts(normalize=True) for kind, values in tables.items()}
        names = list(shares["real"].add(shares["synthetic"], fill_value=0).sort_values(ascending=False).index)[:MEMBERS]
        places = np.arange(len(names))
        for kind, offset, color in (("real", -0.2, RED), ("synthetic", 0.2, BLUE)):
            heights = [100 * float(shares[kind].get(one, 0.0)) for one in names]
            axes.bar(places + offset, heights, width=0.4, color=color, label=kind)
        axes.set_xticks(places, [str(one)[:NAME] for one in names], rotation=45, ha="right")
        axes.set(ylabel="rows (%)")
        axes.legend(frameon=False)

    def values(axes: Axes) -> None:
        dated = compared.types.kinds[name] == DATE
        found: dict[str, Any] = {kind: each.dropna().to_numpy() for kind, each in tables.items()}
        if dated:
            found = {kind: each.astype("datetime64[s]").astype(float) for kind, each in found.items()}
        both = np.concatenate(list(found.values())).astype(float)
        low, high = (np.percentile(both, share) for share in (0, 99.5)) if len(both) else (0.0, 1.0)
        edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
        for kind, color in (("real", RED), ("synthetic", BLUE)):
            each = np.minimum(found[kind].astype(float), edges[-1])
            weights = np.full(len(each), 100 / max(len(each), 1))
            axes.hist(each, edges.tolist(), weights=weights, color=color, label=kind, histtype="step")
        if dated:
            marks = np.linspace(low, high, 5)
            axes.set_xticks(marks, [str(np.datetime64(int(mark), "s"))[:10] for mark in marks])
        axes.set(ylabel="rows (%)", xlabel="the last bar holds all beyond")
        axes.legend(frameon=False)

    return inline_svg(members if compared.types.kinds[name] == CATEGORY else values, height=2.4)


def _matrix(title: str, matrix: np.ndarray, names: list[str]) -> str:
    def draw(axes: Axes) -> None:
        shown = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        places = range(len(names))
        axes.set_xticks(places, [name[:NAME] for name in names], rotation=45, ha="right")
        axes.set_yticks(places, [name[:NAME] for name in names])
        axes.set_title(title, fontsize=10)
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)

    return inline_svg(draw, height=3.6)
