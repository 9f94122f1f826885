"""The paper's tables, as Markdown, CSV and LaTeX."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.reporting.results import Failure, Group, Result, as_frame
from pipeline.runtime.files import write_csv, write_text

if TYPE_CHECKING:
    import pandas

DASH = "–"
PARTS = ("mean", "sd", "n")


@dataclass(frozen=True)
class Column:
    """A figure of `summary.json`, how it is called, and its decimals."""

    figure: str
    label: str
    decimals: int


TABLES: dict[str, tuple[Column, ...]] = {
    "reconstruction": (
        Column("validation/reconstruction_bleu", "BLEU, validation", 1),
        Column("validation/reconstruction_perplexity", "perplexity, validation", 2),
        Column("test/reconstruction_bleu", "BLEU, test", 1),
        Column("test/reconstruction_perplexity", "perplexity, test", 2),
        Column("validation/elbo", "ELBO, validation (nats)", 1),
        Column("validation/importance_weighted_bound", "IW bound, validation (nats)", 1),
        Column("test/elbo", "ELBO, test (nats)", 1),
        Column("test/importance_weighted_bound", "IW bound, test (nats)", 1),
    ),
    "generation": (
        Column("samples/forward_perplexity", "F-PPL", 1),
        Column("samples/forward_perplexity_of_real_text", "… of real text", 1),
        Column("validation/reverse_perplexity", "R-PPL, validation", 1),
        Column("validation/reverse_perplexity_of_real_text", "… of real text", 1),
        Column("test/reverse_perplexity", "R-PPL, test", 1),
        Column("test/reverse_perplexity_of_real_text", "… of real text", 1),
    ),
    "diversity": tuple(
        Column(f"samples/{name}{suffix}", f"{label}{of}", decimals)
        for name, label, decimals in (
            ("distinct_1", "distinct-1", 3),
            ("distinct_2", "distinct-2", 3),
            ("distinct_3", "distinct-3", 3),
            ("self_bleu", "self-BLEU", 1),
            ("exact_training_fraction", "training sentences", 3),
            ("longest_training_ngram", "longest training n-gram", 1),
            ("length_divergence", "length divergence (bits)", 3),
        )
        for suffix, of in (("", ""), ("_of_real_text", ", real text"))
    ),
    "regularisation": (
        Column("validation/vectors_kept", "vectors kept", 1),
        Column("validation/vectors_kept_fraction", "share kept", 3),
        Column("validation/reconstruction_bleu", "BLEU", 1),
        Column("validation/kl_gaussian", "KL_G", 3),
        Column("validation/kl_dirichlet", "KL_D", 4),
        Column("validation/alpha0", "alpha0", 1),
        Column("regularisation/unexplained_by_length", "unexplained by length", 3),
        Column("regularisation/alpha_frequency_correlation", "alpha and frequency (Spearman)", 2),
        Column("validation/active_units", "active units", 0),
        Column("validation/perplexity_gap", "perplexity gap", 1),
    ),
    "interpolation": (
        Column("interpolation/tau_0.5/bleu_source", "BLEU to the source, τ = 0.5", 1),
        Column("interpolation/tau_0.5/bleu_target", "BLEU to the target, τ = 0.5", 1),
        Column("interpolation/tau_0.5/novel_fraction", "novel, τ = 0.5", 3),
        Column("interpolation/tau_0.5/novel_forward_perplexity", "F-PPL of the novel, τ = 0.5", 1),
    ),
}


def write_tables(folder: Path, groups: Sequence[Group], failures: Sequence[Failure], figures: Sequence[str]) -> str:
    """Write every table that has a figure, and all of them as one page.

    Args:
        folder: `<table>.csv`, `<table>.tex` and `report.md` are written here.
        groups: of experiments.
        failures: listed below the tables.
        figures: names of the PNG files that the page shows.

    Returns:
        The page.
    """
    parts = [
        "# Report\n\nMean ± standard deviation over seeds; – is a measurement that was not taken, (n) one that n "
        "of the seeds have."
    ]
    for name, columns in TABLES.items():
        frame = as_frame(groups, list(dict.fromkeys(column.figure for column in columns)))
        shown = [column for column in columns if frame[(column.figure, "mean")].notna().any()]
        if not shown:
            continue
        header = ["", "seeds", *(column.label for column in shown)]
        rows = [
            [group.label, str(len(group.results)), *(_cell(frame, group, column) for column in shown)]
            for group in groups
        ]
        parts.append(f"## {name.capitalize()}\n\n{_markdown(header, rows)}")
        write_text(folder / f"{name}.tex", _latex(header, rows))
        _write_csv(folder / f"{name}.csv", groups, shown, frame)
    parts += [f"![{Path(figure).stem}]({figure})" for figure in figures]
    if failures:
        lines = [f"- {failure.name}: {failure.reason}" for failure in failures]
        parts.append("## Without figures\n\n" + "\n".join(lines))
    page = "\n\n".join(parts) + "\n"
    write_text(folder / "report.md", page)
    return page


def write_experiments(path: Path, results: Sequence[Result]) -> None:
    """Write every figure of every experiment as one CSV table, a row each."""
    names = sorted({name for result in results for name in result.figures})
    rows = [
        [result.name, result.settings.get("seed", ""), *(result.figures.get(n, "") for n in names)]
        for result in results
    ]
    write_csv(path, ["experiment", "seed", *names], rows)


def _cell(frame: "pandas.DataFrame", group: Group, column: Column) -> str:
    mean, deviation, count = (float(frame.loc[group.label, (column.figure, part)]) for part in PARTS)
    if math.isnan(mean):
        return DASH
    text = f"{mean:.{column.decimals}f}"
    text = text if math.isnan(deviation) else f"{text} ± {deviation:.{column.decimals}f}"
    return text if count == len(group.results) else f"{text} ({count:.0f})"


def _write_csv(path: Path, groups: Sequence[Group], columns: Sequence[Column], frame: "pandas.DataFrame") -> None:
    header = ["group", "experiments", "seeds"]
    header += [f"{column.figure} {part}" for column in columns for part in PARTS]
    rows = []
    for group in groups:
        values = [float(frame.loc[group.label, (column.figure, part)]) for column in columns for part in PARTS]
        names = " ".join(result.name for result in group.results)
        rows.append([group.label, names, len(group.results), *("" if math.isnan(v) else f"{v:.8g}" for v in values)])
    write_csv(path, header, rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A tabular for the booktabs package."""
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    lines += [" & ".join(map(_latex_cell, header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_latex_cell, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(text: str) -> str:
    text = re.sub(r"([#$%&_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
    replacements = {"±": r"$\pm$", DASH: "--", "τ": r"$\tau$", "…": r"\dots", "^": r"\^{}", "~": r"\~{}"}
    for plain, latex in replacements.items():
        text = text.replace(plain, latex)
    return text
