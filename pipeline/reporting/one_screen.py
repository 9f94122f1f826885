"""One screen on what came out: models beside real text and unigrams, and their first samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.shown_figures import SCREEN
from pipeline.generation.generate import read_samples
from pipeline.reporting.console import on_one_line
from pipeline.reporting.results import Result, across_seeds, controls_of, from_outputs, grouped

FIRST = 5  # samples of each model that are shown
WIDTH = 110  # characters of a line; longer samples are cut
DASH = "–"


def one_screen(output_dir: Path, project: str, names: Sequence[str], sampled: Mapping[str, str]) -> str:
    """Format the figures and the first samples of experiments.

    Args:
        output_dir: folder of all projects.
        project: project of the experiments.
        names: names of the experiments, in order.
        sampled: heading of the samples of each experiment that has some, by its name.

    Returns:
        A table with a row for real text, for unigrams and for each experiment, and below it the first samples, which
        nobody chose.

    Raises:
        UserError: an experiment has no samples.
    """
    results, _ = from_outputs(output_dir, project, names)
    parts = [table(results)]
    for name, heading in sampled.items():
        rows = read_samples(ExperimentFiles.of(output_dir, project, name))[:FIRST]
        parts.append("\n".join([f"{heading}, the first {len(rows)}, not chosen:", *map(_shown, rows)]))
    return "\n\n".join(parts)


def table(results: Sequence[Result]) -> str:
    """Format experiments and controls as a table with a row each; a dash is a missing figure."""
    groups = grouped(results)
    spreads = across_seeds(groups, SCREEN)
    found = {control: dict(values) for control, values in controls_of(groups, SCREEN).items()}
    for group in groups:
        label = f"{group.label} ({group.model})" if group.model else group.label
        found[label] = {key: spread for key in SCREEN if (spread := spreads.get((group.label, key))) is not None}
    shown = [FIGURES[key] for key in SCREEN if any(key in values for values in found.values())]
    rows = [["", *(figure.column(with_split=False) for figure in shown)]]
    for label, values in found.items():
        cells = [
            f"{values[figure.key].mean:.{figure.metric.decimals}f}" if figure.key in values else DASH
            for figure in shown
        ]
        rows.append([label, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def _shown(row: Mapping[str, str]) -> str:
    text = on_one_line(row["text"])
    return f"  {text if len(text) <= WIDTH else text[: WIDTH - 1] + '…'}"
