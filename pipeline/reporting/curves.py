"""The report's figures: each as PNG and PDF, and only where there is something to draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.reporting.results import Group
from pipeline.runtime.plotting import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALSO = (".pdf",)
MARKS = "osD^vPX*"  # one for each ten groups, which is as many colours as there are
TAUS = ("0", "0.25", "0.5", "0.75", "1")


def write_figures(folder: Path, groups: Sequence[Group]) -> list[str]:
    """Draw what the groups have figures for; returns the names of the PNG files."""
    drawn = []
    points = (
        (
            "reconstruction_against_kept",
            ("validation/vectors_kept_fraction", "share of vectors kept"),
            ("validation/reconstruction_bleu", "reconstruction BLEU"),
        ),
        (
            "forward_against_reverse",
            ("samples/forward_perplexity", "F-PPL of samples"),
            ("test/reverse_perplexity", "R-PPL, test"),
        ),
        (
            "forward_against_reverse_validation",
            ("samples/forward_perplexity", "F-PPL of samples"),
            ("validation/reverse_perplexity", "R-PPL, validation"),
        ),
    )
    for name, x, y in points:
        shown = [group for group in groups if group.values(x[0]) and group.values(y[0])]
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
    return drawn


def _points(axes: "Axes", groups: Sequence[Group], x: tuple[str, str], y: tuple[str, str]) -> None:
    """A mark a group with its deviation over seeds; a star where real text stands."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for number, group in enumerate(groups):
        across, up = (np.array(group.values(name)) for name, _ in (x, y))
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
    real = [[value for group in groups for value in group.values(f"{name}_of_real_text")] for name, _ in (x, y)]
    if all(real):
        axes.plot(np.mean(real[0]), np.mean(real[1]), "k*", markersize=10, label="real text")
    if "perplexity" in x[0]:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=x[1], ylabel=y[1])
    axes.legend(frameon=False, fontsize=8)


def _interpolation(axes: "Axes", groups: Sequence[Group]) -> None:
    """BLEU to either end over tau."""
    for number, group in enumerate(groups):
        for end, style in (("source", "-"), ("target", "--")):
            values = [group.values(f"interpolation/tau_{tau}/bleu_{end}") for tau in TAUS]
            if all(values):
                means = [np.mean(each) for each in values]
                label = group.label if end == "source" else None
                axes.plot([float(tau) for tau in TAUS], means, style, color=f"C{number % 10}", marker=".", label=label)
    axes.set(xlabel="τ", ylabel="BLEU to source (full), to target (dashed)")
    axes.legend(frameon=False, fontsize=8)


def _training(axes: "Axes", groups: Sequence[Group]) -> None:
    """Validation cross-entropy over steps, a line an experiment, a colour a group."""
    for number, group in enumerate(groups):
        label = group.label
        for result in group.results:
            rows = [row for row in result.history if row.get("validation/cross_entropy") is not None]
            if rows:
                steps, losses = ([row[name] for row in rows] for name in ("step", "validation/cross_entropy"))
                axes.plot(steps, losses, color=f"C{number % 10}", lw=1, marker=".", markersize=3, label=label)
                label = None
    axes.set(xlabel="optimizer steps", ylabel="validation cross-entropy (nats a token)")
    axes.legend(frameon=False, fontsize=8)
