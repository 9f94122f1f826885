"""The tables of the paper as Markdown, CSV and LaTeX; `pipeline.experiments.metrics` declares their columns."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.experiments.metric_types import Figure
from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.shown_figures import NEEDED, TABLES
from pipeline.reporting.judges import incomparable
from pipeline.reporting.results import Failure, Group, Result, Spread, across_seeds, controls_of
from pipeline.runtime.files import write_csv, write_text

DASH = "–"
TEXTS = 2  # columns of text before those of numbers
PARTS = ("mean", "sd", "n")  # suffixes of a figure's columns in a CSV file


def write_tables(folder: Path, groups: Sequence[Group], failures: Sequence[Failure], figures: Sequence[str]) -> str:
    """Write each table of which any group has a figure, and all of them as one page.

    A table of an earlier report that these groups lack is removed.

    Args:
        folder: folder of the files written: `<table>.csv`, `<table>.tex` and `report.md`.
        groups: groups of experiments, a row each; real text and unigrams have the last rows.
        failures: experiments without figures, listed below the tables.
        figures: names of the PNG files that the page shows.

    Returns:
        The page in Markdown.
    """
    parts = [
        "# Report\n\nMean ± standard deviation over seeds; – is a measurement that was not taken, (n) one that n "
        "of the seeds have. The rows of real text and of unigrams (tokens drawn independently of each other) are means "
        "over the experiments that have them."
    ]
    parts += incomparable([result for group in groups for result in group.results])
    for name, keys in TABLES.items():
        spreads = across_seeds(groups, keys)
        measured = {key for _, key in spreads}
        shown = [FIGURES[key] for key in keys if key in measured]
        if not shown or NEEDED.get(name, shown[0].key) not in measured:
            for suffix in (".csv", ".tex"):
                (folder / name).with_suffix(suffix).unlink(missing_ok=True)
            continue
        with_split = len({FIGURES[key].split for key in keys} - {None}) > 1
        header = ["", "model", "seeds", *(figure.column(with_split) for figure in shown)]
        rows = [
            [
                group.label,
                group.model or DASH,
                str(len(group.results)),
                *(_cell(spreads.get((group.label, figure.key)), figure, len(group.results)) for figure in shown),
            ]
            for group in groups
        ]
        controls = controls_of(groups, [figure.key for figure in shown])
        rows += [
            [control, DASH, DASH, *(_cell(found.get(figure.key), figure, None) for figure in shown)]
            for control, found in controls.items()
        ]
        parts.append(f"## {name.capitalize()}\n\n{_markdown(header, rows)}")
        write_text(folder / f"{name}.tex", _latex(header, rows))
        _write_csv(folder / f"{name}.csv", groups, shown, spreads, controls)
    parts += [f"![{Path(figure).stem}]({figure})" for figure in figures]
    if failures:
        lines = [f"- {failure.name}: {failure.reason}" for failure in failures]
        parts.append("## Without figures\n\n" + "\n".join(lines))
    page = "\n\n".join(parts) + "\n"
    write_text(folder / "report.md", page)
    return page


def write_experiments(path: Path, results: Sequence[Result]) -> None:
    """Write the figures of experiments as one CSV file: a row for each experiment, a column for each figure."""
    names = sorted({name for result in results for name in result.figures})
    settings = ("model", "seed")
    rows = [
        [result.name, *(result.settings.get(n, "") for n in settings), *(result.figures.get(n, "") for n in names)]
        for result in results
    ]
    write_csv(path, ["experiment", *settings, *names], rows)


def _cell(spread: Spread | None, figure: Figure, experiments: int | None) -> str:
    """Format a mean and its deviation, with the number of experiments where fewer than `experiments` have it."""
    if spread is None:
        return DASH
    decimals = figure.metric.decimals
    text = f"{spread.mean:.{decimals}f}"
    if not math.isnan(spread.deviation):
        text = f"{text} ± {spread.deviation:.{decimals}f}"
    return text if experiments in (None, spread.count) else f"{text} ({spread.count})"


def _write_csv(
    path: Path,
    groups: Sequence[Group],
    figures: Sequence[Figure],
    spreads: Mapping[tuple[str, str], Spread],
    controls: Mapping[str, Mapping[str, Spread]],
) -> None:
    columns = [f"{figure.key} {part}" for figure in figures for part in PARTS]
    header = ["group", "model", "experiments", "seeds", *columns]
    rows = []
    for group in groups:
        names = " ".join(result.name for result in group.results)
        found = {figure.key: spreads.get((group.label, figure.key)) for figure in figures}
        rows.append([group.label, group.model, names, str(len(group.results)), *_parts(found, figures)])
    rows += [[control, "", "", "", *_parts(found, figures)] for control, found in controls.items()]
    write_csv(path, header, rows)


def _parts(found: Mapping[str, Spread | None], figures: Sequence[Figure]) -> list[str]:
    """Cells of a CSV file: `PARTS` of each figure, empty where there is no value."""
    row: list[str] = []
    for figure in figures:
        spread = found.get(figure.key)
        values = () if spread is None else (spread.mean, spread.deviation, spread.count)
        row += ["" if math.isnan(value) else f"{value:.8g}" for value in values] or [""] * len(PARTS)
    return row


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * TEXTS + ["---:"] * (len(header) - TEXTS)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table as a LaTeX tabular, for the booktabs package."""
    lines = [rf"\begin{{tabular}}{{{'l' * TEXTS}{'r' * (len(header) - TEXTS)}}}", r"\toprule"]
    lines += [" & ".join(map(_latex_cell, header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex_cell, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(text: str) -> str:
    text = re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
    replacements = {"±": r"$\pm$", DASH: "--", "τ": r"$\tau$", "…": r"\dots", "^": r"\^{}", "~": r"\~{}"}
    for plain, latex in replacements.items():
        text = text.replace(plain, latex)
    return text
