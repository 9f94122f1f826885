"""Figures of the report, each as PNG and PDF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pipeline.experiments.metric_types import REAL_TEXT, Figure
from pipeline.experiments.metrics import FIGURES, TAUS
from pipeline.reporting.results import Group
from pipeline.runtime.plotting import figure

ALSO = (".pdf",)
MARKS = "osD^vPX*"  # one for each ten groups: there are ten colours
# Plots of one figure against another: name of the file, key of the x axis, key of the y axis.
AGAINST = (
    ("reconstruction_against_kept", "validation/vectors_kept_fraction", "validation/reconstruction_bleu"),
    ("reconstruction_against_rate", "validation/rate", "validation/reconstruction_bleu"),
    ("forward_against_rate", "validation/rate", "samples/forward_perplexity"),
    ("reverse_against_rate", "validation/rate", "validation/reverse_perplexity"),
    ("mauve_against_rate", "validation/rate", "samples/mauve"),
    ("perplexity_against_rate", "validation/rate", "validation/perplexity"),
    ("kept_against_rate", "validation/rate", "validation/vectors_kept_fraction"),
    ("forward_against_reverse", "samples/forward_perplexity", "test/reverse_perplexity"),
    ("forward_against_reverse_validation", "samples/forward_perplexity", "validation/reverse_perplexity"),
)
# Names of all figures, one of which an earlier report of other experiments may have left.
NAMES = (*(name for name, *_ in AGAINST), "interpolation", "training", "control")


def write_figures(folder: Path, groups: Sequence[Group]) -> list[str]:
    """Draw each figure for which any group has values, and remove those of an earlier report that these lack.

    Args:
        folder: folder of the files written.
        groups: groups of experiments, a colour and mark each.

    Returns:
        Names of the PNG files.
    """
    drawn = []
    for name, *keys in AGAINST:
        x, y = (FIGURES[key] for key in keys)
        shown = [group for group in groups if group.values(x.key) and group.values(y.key)]
        if shown:
            with figure(folder / f"{name}.png", also=ALSO) as axes:
                _points(axes, shown, x, y)
            drawn.append(f"{name}.png")
    shown = [group for group in groups if group.values("interpolation/tau_0.5/bleu_source")]
    if shown:
        with figure(folder / "interpolation.png", also=ALSO) as axes:
            _interpolation(axes, shown)
        drawn.append("interpolation.png")
    if any(result.history for group in groups for result in group.results):
        with figure(folder / "training.png", also=ALSO) as axes:
            _training(axes, groups)
        drawn.append("training.png")
    if any("target_rate" in look for group in groups for result in group.results for look in result.control):
        with figure(folder / "control.png", also=ALSO) as axes:
            _control(axes, groups)
        drawn.append("control.png")
    for name in NAMES:
        if f"{name}.png" not in drawn:
            for suffix in (".png", *ALSO):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
    return drawn


def _points(axes: Axes, groups: Sequence[Group], x: Figure, y: Figure) -> None:
    """Mark the mean of each group with its standard deviation over seeds; a star marks real text."""
    for number, group in enumerate(groups):
        across, up = (np.array(group.values(each.key)) for each in (x, y))
        spread = [values.std(ddof=1) if len(values) > 1 else 0.0 for values in (across, up)]
        axes.errorbar(
            across.mean(),
            up.mean(),
            xerr=spread[0],
            yerr=spread[1],
            fmt=MARKS[number // 10 % len(MARKS)],
            color=f"C{number % 10}",
            markersize=5,
            capsize=2,
            label=group.label,
        )
    real = [[value for group in groups for value in group.values(each.key + REAL_TEXT)] for each in (x, y)]
    if all(real):
        axes.plot(np.mean(real[0]), np.mean(real[1]), "k*", markersize=10, label="real text")
    if "perplexity" in x.key:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=x.label, ylabel=y.label)
    axes.legend(frameon=False, fontsize=8)


def _interpolation(axes: Axes, groups: Sequence[Group]) -> None:
    """Plot BLEU to the source and to the target against tau."""
    for number, group in enumerate(groups):
        for end, style in (("source", "-"), ("target", "--")):
            values = [group.values(f"interpolation/tau_{tau}/bleu_{end}") for tau in TAUS]
            if all(values):
                means = [float(np.mean(each)) for each in values]
                label = group.label if end == "source" else None
                axes.plot([float(tau) for tau in TAUS], means, style, color=f"C{number % 10}", marker=".", label=label)
    axes.set(xlabel="τ", ylabel="BLEU to source (full), to target (dashed)")
    axes.legend(frameon=False, fontsize=8)


def _training(axes: Axes, groups: Sequence[Group]) -> None:
    """Plot validation cross-entropy against optimizer steps: a line for each experiment, a colour for each group."""
    loss, step = FIGURES["validation/cross_entropy"], FIGURES["step"]
    for number, group in enumerate(groups):
        label = group.label
        for result in group.results:
            rows = [row for row in result.history if row.get(loss.key) is not None]
            if rows:
                steps, losses = ([row[each.key] for row in rows] for each in (step, loss))
                axes.plot(steps, losses, color=f"C{number % 10}", lw=1, marker=".", markersize=3, label=label)
                label = None
    axes.set(xlabel=step.label, ylabel=loss.label)
    axes.legend(frameon=False, fontsize=8)


def _control(axes: Axes, groups: Sequence[Group]) -> None:
    """Plot the rate of validation sentences and its target against optimizer steps: a colour for each group."""
    for number, group in enumerate(groups):
        label = group.label
        for result in group.results:
            looks = [look for look in result.control if "target_rate" in look]
            if looks:
                steps, rates, targets = ([look[key] for look in looks] for key in ("step", "rate", "target_rate"))
                axes.plot(steps, rates, color=f"C{number % 10}", lw=1, marker=".", markersize=3, label=label)
                axes.plot(steps, targets, "--", color=f"C{number % 10}", lw=1)
                label = None
    axes.set(yscale="log", xlabel=FIGURES["step"].label, ylabel="rate (full) and its target (dashed), nats a vector")
    axes.legend(frameon=False, fontsize=8)
