"""Text for a terminal: interpolations, figures of samples beside controls, and experiments side by side."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.sampling import LONG_RUN
from pipeline.data.writers import Written
from pipeline.experiments.metric_types import CONTROLS, REAL_TEXT
from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.shown_figures import HEADLINE

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def interpolation_blocks(rows: Sequence[dict[str, Any]]) -> str:
    """Format each pair as a block: the source, the outputs in order of tau, the target.

    Args:
        rows: as `pipeline.generation.generate.interpolations` returns them.
    """
    blocks = []
    for row in rows:
        lines = [f"source  {on_one_line(row['source'])}"]
        lines += [f"  {tau:<5} {on_one_line(text)}" for tau, text in row["outputs"].items()]
        blocks.append("\n".join([*lines, f"target  {on_one_line(row['target'])}"]))
    return "\n\n".join(blocks) + "\n"


def beside_controls(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Format figures of samples beside the same figures of real text and of unigrams, a line each.

    Args:
        measured: figures by name, of the samples under "" and of each control under its suffix in `CONTROLS`; rows of
            a table have no unigrams.
    """
    own = measured[""]
    controls = [suffix for suffix in CONTROLS if suffix in measured]
    width = max(map(len, own))
    header = "".join(f" {text:>9}" for text in ("samples", *map(CONTROLS.__getitem__, controls)))
    texts = [own, *(measured[suffix] for suffix in controls)]
    rows = [f"  {name:<{width}}" + "".join(f" {text[name]:9.4g}" for text in texts) for name in own]
    return "\n".join([f"  {'':<{width}}{header}", *rows])


def copies(measured: Mapping[str, Mapping[str, float]], samples: int, held_out: int) -> str:
    """Count the samples that repeat a training text, beside as many or fewer held-out texts.

    Args:
        measured: figures as in `beside_controls`.
        samples: number of samples.
        held_out: number of held-out texts.
    """
    of_samples, of_real = (
        [round(measured[suffix][name] * count) for name in ("exact_training_fraction", "training_run_fraction")]
        for suffix, count in (("", samples), (REAL_TEXT, held_out))
    )
    return (
        f"copies: {of_samples[0]:,} of {samples:,} samples are training texts, {of_samples[1]:,} have {LONG_RUN} words "
        f"in a row of one; of {held_out:,} held-out texts {of_real[0]:,} and {of_real[1]:,}"
    )


def on_one_line(text: str) -> str:
    r"""Write line breaks and other control characters of a text as `\n`, `\x1b`, `\u2028`; tabs stay."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def of_own_form(written: Written) -> str:
    """Say where samples are in the form of the user's own, and why some samples are not among them."""
    said = f"as the data came: {written.path}"
    if not written.rejected:
        return said
    samples = "sample that is not" if written.rejected == 1 else "samples that are not"
    rows = f"with {written.rows:,} rows, without {written.rejected:,} {samples} of the form"
    row, of = ("line", "text") if str(written.path).endswith(".txt") else ("row", "table")
    lines = [f"{said}, {rows}:" if written.rows else f"no sample is a {row} of the {of}; {written.path} has no {row}:"]
    lines += [f"  {reason}" for reason in written.explained()]
    if written.rows * 2 < written.rejected:
        columns = ", or allow what a column refuses (prepareDatasets.py --COLUMN_TYPES column=text)"
        lines.append("train longer (--MAX_STEPS)" + (columns if row == "row" else ""))
    return "\n".join(lines)


def side_by_side(experiments: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the headline figures of experiments as a table with a column each; a dash is a missing figure.

    Args:
        experiments: summaries by the experiments' names.
    """
    shown = [FIGURES[key] for key in HEADLINE]
    label_width = max(len(figure.console_label) for figure in shown)
    widths = {name: max(len(name), 10) for name in experiments}
    lines = [" " * label_width + "".join(f"  {name:>{widths[name]}}" for name in experiments)]
    lines.append("-" * len(lines[0]))
    for figure in shown:
        found = [summary.get(figure.key) for summary in experiments.values()]
        if all(value is None for value in found):
            continue
        values = ["–" if value is None else format(value, figure.metric.form) for value in found]
        cells = (f"  {value:>{widths[name]}}" for name, value in zip(experiments, values, strict=True))
        lines.append(f"{figure.console_label:<{label_width}}" + "".join(cells))
    return "\n".join(lines)


def files_written(folder: Path) -> str:
    """List the files of a folder with their sizes, a line each; hidden files are left out."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    return "\n".join(f"  {path}  ({_size(path.stat().st_size)})" for path in paths)


def _size(size: float) -> str:
    """Format a size in bytes with three digits or less before the point."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
