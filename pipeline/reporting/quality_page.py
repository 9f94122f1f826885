"""`quality.html`: the figures of `pipeline.evaluation.sample_quality` as one self-contained page."""

import difflib
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline.evaluation.base_judge import BaseJudge
from pipeline.evaluation.bootstrap import COVERAGE, Estimate
from pipeline.evaluation.quality_rows import CAUTION, Quality, Row
from pipeline.evaluation.sample_quality import Material
from pipeline.reporting.table_plots import table_plots
from pipeline.runtime.plotting import inline_svg

BLUE, RED, GRAY = "#4477aa", "#cc6677", "#999999"
DASH = "–"
COLOURS = {"synthetic": BLUE, "real": RED, "train": GRAY, "members": BLUE, "others": RED, "again": GRAY}

TITLES = {"copies": "Copies: a copy check"}
EXPLAINED = {
    "table": "Are the rows like real ones? Shapes and trends are the means of SDMetrics' scores over columns and pairs "
    "of columns. A boosted-tree classifier tries to tell the samples from real rows, and trees trained on the samples "
    "predict a column of held-out rows. The second column shows held-out rows in the samples' place, and for the "
    "trees the training rows.",
    "fidelity": "Does it read like the real text? Jensen–Shannon divergences are measured from the training split: 0 "
    "means equal distributions, 1 means nothing in common. Rare n-grams differ between any two texts, so the second "
    "column shows the divergence that is unavoidable. MAUVE compares the texts with training sentences by the mean "
    "vector that the model's own encoder gives each sentence; a model may score too well on its own features.",
    "coverage": "Does it have what the real text has? The shares are of all words or bigrams of the training split, "
    "repetitions counted. The second perplexity is that of a model trained on as many real training sentences, "
    "or on all of them where the samples are more.",
    "diversity": "Does it repeat itself? Figures far from those of real text are bad in either direction: noise is "
    "varied too.",
    "copies": "Each sample is compared with the training sentence that is nearest by edit distance (tokens inserted, "
    "left out or replaced, over the tokens of the longer sentence), and with the one that has most of its 3-grams. "
    "Held-out text was never trained on: its copies are chance, and only an excess of the samples points to "
    "memorising. Short sentences lie nearer to others than long ones, so look at the lengths above first. No near copy "
    "is missed. Distances above the threshold are those of the likeliest candidates and may be a little too large, in "
    "both columns. These comparisons find no paraphrases; only nearness in meaning, where it is measured, does. Of a "
    "table's rows, identifiers are left out, which are new in every sample.",
    "membership": "The chance that the model's loss is lower on a training sentence than on a held-out one: 0.5 means "
    "that this attack learns nothing about membership, 1 that it is always right. The second column has the same "
    "attack with sentences of the other held-out split in place of the training sentences: splits have different "
    "documents, which alone may tell them apart. A judge, if there is one, learned from the same training sentences: "
    "after subtracting its loss, a figure above 0.5 means that the model knows them better than the judge, one below "
    "0.5 that the judge knows them better, and nothing else. Stronger attacks may learn more.",
    "usefulness": "Can a classifier learn from it what it learns from real text?",
}
STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; color: #222; max-width: 68em; margin: 2em auto; padding: 0 1.2em }
h1 { margin-bottom: 0 } h2 { margin: 2.2em 0 0.3em; border-bottom: 1px solid #ddd } h3 { margin: 1.6em 0 0.4em }
p { max-width: 50em } p.lead { color: #555; margin-top: 0.2em }
p.caution { border-left: 4px solid #cc6677; padding: 0.3em 0.9em; background: #faf3f4 }
table { border-collapse: collapse; width: 100%; margin: 0.8em 0; table-layout: fixed }
th { text-align: left; font-weight: 600 }
th, td { padding: 0.3em 0.7em; border-bottom: 1px solid #eee; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
thead th { border-bottom: 2px solid #ccc } td.better { color: #555 }
small { color: #666 } code { background: #f4f4f4; padding: 0 0.2em } mark { background: #f6d9dc }
svg { width: 100%; height: auto; max-width: 44em; display: block } .cases td { font-size: 0.92em }
.figures th:nth-child(n+2) { width: 17% }
.figures th:last-child { width: 21% } .cases th:first-child { width: 17% } td { overflow-wrap: anywhere }
"""


def page(material: Material, quality: Quality, title: str, dropped: str = "") -> str:
    """Write the page.

    Args:
        material: texts and settings of the comparison.
        quality: figures of the comparison.
        title: title of the page.
        dropped: sentence about the copies that were dropped, empty if none were.
    """
    shown = html.escape(title)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{shown}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{shown}</h1>",
        f'<p class="lead">{html.escape(compared(material, quality))}</p>',
        f'<p class="caution">{html.escape(CAUTION)}</p>',
    ]
    for section in quality.sections:
        parts.append(f"<h2>{TITLES.get(section, section.capitalize())}</h2>")
        parts.append(f"<p>{html.escape(EXPLAINED[section])}</p>")
        if note := quality.notes.get(section):
            parts.append(f"<p>{html.escape(note)}</p>")
        if rows := [row for row in quality.rows if row.section == section]:
            parts.append(_table(rows))
        if section in PLOTS:
            parts += PLOTS[section](quality)
        if section == "copies" and dropped:
            parts.append(f"<p>{html.escape(dropped)}</p>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def compared(material: Material, quality: Quality) -> str:
    """Describe the comparison: samples, held-out text, training split and judge."""
    measured = {row.name for row in quality.rows if row.synthetic is not None}
    reverse = ", and R-PPL is of all" if "reverse_perplexity" in measured else ""
    table = ""
    if quality.table is not None:
        table = f", those of the table of {quality.table.rows:,}, beside as many rows of the validation and test splits"
    judge = "no judge"
    if isinstance(material.judge, BaseJudge):
        judge = f"judge {material.judge.name}, which is pretrained and scores fluency alone"
    elif material.judge is not None:
        judge = f"judge {material.judge.files.folder.name}"
    return (
        f"{len(material.rows):,} samples of {material.experiment.files.folder.name}. Near copies are of all of them"
        f"{reverse}; unless a note says otherwise, figures are of {material.count:,}, beside as many "
        f"held-out sentences ({material.subset} split){table}. The training split has {len(material.train):,}. An "
        f"interval holds {COVERAGE} % of bootstrap values; {judge}."
    )


def as_text(rows: Sequence[Row]) -> str:
    """Format the figures for a terminal, a line each."""
    lines = [("", "synthetic", "held-out real", "better when")]
    lines += [(row.label, _value(row.synthetic, row.form), _value(row.real, row.form), row.better) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"  {label:<{widths[0]}}  {own:>{widths[1]}}  {real:>{widths[2]}}  {better}".rstrip()
        for label, own, real, better in lines
    )


def _table(rows: Sequence[Row]) -> str:
    """Table of a section's figures."""
    head = "<thead><tr><th>figure</th>"
    head += '<th class="number">synthetic</th><th class="number">held-out real</th><th>better when</th></tr></thead>'
    body = []
    for row in rows:
        missing = f"<br><small>not measured: {html.escape(row.missing)}</small>" if row.missing else ""
        body.append(
            f"<tr><td>{html.escape(row.label)}{missing}</td>"
            f'<td class="number">{_cell(row.synthetic, row.form)}</td>'
            f'<td class="number">{_cell(row.real, row.form)}</td><td class="better">{html.escape(row.better)}</td></tr>'
        )
    return "\n".join([f'<table class="figures">{head}<tbody>', *body, "</tbody></table>"])


def _cell(value: float | Estimate | None, form: str) -> str:
    if not isinstance(value, Estimate):
        return _value(value, form)
    return f"{value.value:{form}} <small>[{value.low:{form}}, {value.high:{form}}]</small>"


def _value(value: float | Estimate | None, form: str) -> str:
    if value is None:
        return DASH
    if isinstance(value, Estimate):
        return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"
    return format(value, form)


def _lengths(quality: Quality) -> list[str]:
    """Histogram of sentence lengths."""
    names = {"synthetic": "samples", "real": "held-out text", "train": "training text"}
    longest = max(int(values.max(initial=1)) for values in quality.lengths.values())
    return [_histogram(quality.lengths, names, np.arange(1, longest + 2) - 0.5, "tokens, end token counted")]


def _losses(quality: Quality) -> list[str]:
    """Histogram of the losses of members and others."""
    names = {"members": "trained on", "others": "held out", "again": "held out, the other split"}
    values = np.concatenate(list(quality.losses.values()))
    edges = np.linspace(values.min(), max(np.percentile(values, 99), values.min() + 1e-9), 41)
    clipped = {kind: np.minimum(each, edges[-1]) for kind, each in quality.losses.items()}
    return [_histogram(clipped, names, edges, "cross-entropy, nats a token; the last bar holds all beyond")]


def _copies(quality: Quality) -> list[str]:
    """Histogram of distances, and the sentences nearest to a training sentence."""
    names = {"synthetic": "samples", "real": "held-out text"}
    distances = {kind: found.distance for kind, found in quality.found.items()}
    label = "edits over tokens to the nearest training sentence"
    parts = [_histogram(distances, names, np.linspace(0, 1, 41), label)]
    for kind, heading in (("synthetic", "The samples"), ("real", "For comparison, the held-out sentences")):
        parts.append(f"<h3>{heading} that are nearest to a training sentence</h3>")
        parts.append(_cases(quality.worst[kind]) if quality.worst[kind] else "<p>None shares anything with one.</p>")
        if quality.closest.get(kind):
            parts.append("<h4>Nearest in meaning, near copies in wording left out</h4>")
            parts.append(_cases(quality.closest[kind]))
    return parts


def _cases(rows: Sequence[Mapping[str, Any]]) -> str:
    """Table of pairs of sentences; the words in which they differ are marked."""
    measure = "similarity" if "similarity" in rows[0] else "distance, overlap"
    head = f"<thead><tr><th>{measure}</th><th>sentence</th><th>nearest training sentence</th></tr></thead>"
    body = []
    for row in rows:
        own, other = _marked(row["text"], row["nearest"])
        in_words = "similarity" not in row
        numbers = f"{row['distance']:.2f}, {row['overlap']:.0%}" if in_words else f"{row['similarity']:.2f}"
        body.append(f"<tr><td>{numbers}</td><td>{own}</td><td>{other}</td></tr>")
    return "\n".join([f'<table class="cases">{head}<tbody>', *body, "</tbody></table>"])


def _marked(own: str, other: str) -> tuple[str, str]:
    """Mark the words in which two sentences differ."""
    words = own.split(), other.split()
    shown: tuple[list[str], list[str]] = ([], [])
    for tag, *bounds in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side in (0, 1):
            text = html.escape(" ".join(words[side][bounds[2 * side] : bounds[2 * side + 1]]))
            if text:
                shown[side].append(text if tag == "equal" else f"<mark>{text}</mark>")
    return " ".join(shown[0]), " ".join(shown[1])


def _histogram(values: Mapping[str, np.ndarray], names: Mapping[str, str], edges: np.ndarray, label: str) -> str:
    """Histograms of several kinds of sentences in one plot, in percent of each kind.

    Args:
        values: values of the sentences by kind.
        names: names in the legend by kind.
        edges: edges of the bins.
        label: label of the x axis.
    """
    bins = edges.tolist()

    def draw(axes: Axes) -> None:
        for kind, each in values.items():
            share, color = np.full(len(each), 100 / max(len(each), 1)), COLOURS[kind]
            if kind == "synthetic":
                axes.hist(each, bins, weights=share, color=color, label=names[kind], histtype="stepfilled", alpha=0.25)
                axes.hist(each, bins, weights=share, color=color, histtype="step")
            else:
                axes.hist(each, bins, weights=share, color=color, label=names[kind], histtype="step")
        axes.set(xlabel=label, ylabel="sentences (%)")
        axes.legend(frameon=False)

    return inline_svg(draw)


PLOTS: dict[str, Callable[[Quality], list[str]]] = {
    "table": table_plots,
    "fidelity": _lengths,
    "copies": _copies,
    "membership": _losses,
}
