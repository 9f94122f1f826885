"""`quality.html`: the figures of `pipeline.evaluation.sample_quality` as one page that needs nothing beside it."""

import difflib
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.bootstrap import COVERAGE, Estimate
from pipeline.evaluation.quality_rows import CAUTION, SECTIONS, Quality, Row
from pipeline.evaluation.sample_quality import Material
from pipeline.runtime.plotting import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GRAY = "#4477aa", "#cc6677", "#999999"
DASH = "–"
COLOURS = {"synthetic": BLUE, "real": RED, "train": GRAY, "members": BLUE, "others": RED, "again": GRAY}

TITLES = {"copies": "Copies: a copy check"}
EXPLAINED = {
    "fidelity": "Does it read like the real text? Divergences are Jensen–Shannon's, from the training split: 0 is the "
    "same distribution, 1 nothing in common. Rare n-grams differ between any two texts, so the second column says how "
    "little is possible. MAUVE compares sentences by the mean vector that the model's own encoder gives them, with "
    "training sentences; a model may flatter itself there.",
    "coverage": "Does it hold what the real text holds? The shares are of all that stands in the training split, each "
    "as often as it stands there. In the last column of the perplexity a model learned from as many real training "
    "sentences.",
    "diversity": "Does it repeat itself? Figures far from those of real text are bad in either direction: noise is "
    "varied too.",
    "copies": "For every sample the training sentence that is nearest to it by edit distance (tokens inserted, left "
    "out or replaced, over the tokens of the longer sentence), and the one that holds most of its 3-grams. Held-out "
    "text was never trained on: what it has of such copies is mere likeness, and only what samples have beyond it "
    "points to memorising. Short sentences lie nearer than long ones to others, so look at the lengths above first. "
    "No near copy is missed; distances above the threshold are those of the likeliest candidates and may be a little "
    "too large, in both columns alike. Paraphrases are not seen.",
    "membership": "The chance that the model's loss is lower on a sentence it was trained on than on one it was not: "
    "0.5 means that this attack learns nothing about membership, 1 that it always knows. Beside it the same attack on "
    "held-out sentences in the members' place, of the other split: splits differ in their documents, whatever was "
    "trained on. The judge, where there is one, learned from the same sentences: less its loss, a figure above 0.5 "
    "says that the model knows them better than the judge does, and one below that the judge knows them better, and "
    "nothing else. Stronger attacks may learn more.",
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
    """The page.

    Args:
        material: what was compared.
        quality: its figures.
        title: of the page.
        dropped: what was done about copies, if anything.
    """
    shown = html.escape(title)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{shown}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{shown}</h1>",
        f'<p class="lead">{html.escape(compared(material))}</p>',
        f'<p class="caution">{html.escape(CAUTION)}</p>',
    ]
    for section in SECTIONS:
        parts.append(f"<h2>{TITLES.get(section, section.capitalize())}</h2>")
        parts.append(f"<p>{html.escape(EXPLAINED[section])}</p>")
        if note := quality.notes.get(section):
            parts.append(f"<p>{html.escape(note)}</p>")
        if rows := [row for row in quality.rows if row.section == section]:
            parts.append(_table(rows))
        parts += {"fidelity": _lengths, "copies": _copies, "membership": _losses}.get(section, _nothing)(quality)
        if section == "copies" and dropped:
            parts.append(f"<p>{html.escape(dropped)}</p>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def compared(material: Material) -> str:
    """What stands beside what, in a sentence or two."""
    judge = "no judge" if material.judge is None else f"judge {material.judge.files.folder.name}"
    return (
        f"{len(material.rows):,} samples of {material.experiment.files.folder.name}. Copies are looked for among all "
        f"of them; every other figure is of {material.count:,}, beside as many held-out real sentences "
        f"({material.subset} split). The training split has {len(material.train):,}. An interval holds {COVERAGE} % of "
        f"bootstrap values; {judge}."
    )


def as_text(rows: Sequence[Row]) -> str:
    """The figures for a terminal, a line each."""
    lines = [("", "synthetic", "held-out real", "better when")]
    lines += [(row.label, _value(row.synthetic, row.form), _value(row.real, row.form), row.better) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"  {label:<{widths[0]}}  {own:>{widths[1]}}  {real:>{widths[2]}}  {better}".rstrip()
        for label, own, real, better in lines
    )


def _table(rows: Sequence[Row]) -> str:
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


def _nothing(_: Quality) -> list[str]:
    return []


def _lengths(quality: Quality) -> list[str]:
    names = {"synthetic": "samples", "real": "held-out text", "train": "training text"}
    longest = max(int(values.max(initial=1)) for values in quality.lengths.values())
    return [_histogram(quality.lengths, names, np.arange(1, longest + 2) - 0.5, "tokens, end token counted")]


def _losses(quality: Quality) -> list[str]:
    names = {"members": "trained on", "others": "held out", "again": "held out, the other split"}
    values = np.concatenate(list(quality.losses.values()))
    edges = np.linspace(values.min(), max(np.percentile(values, 99), values.min() + 1e-9), 41)
    clipped = {kind: np.minimum(each, edges[-1]) for kind, each in quality.losses.items()}
    return [_histogram(clipped, names, edges, "cross-entropy, nats a token; the last bar holds all beyond")]


def _copies(quality: Quality) -> list[str]:
    names = {"synthetic": "samples", "real": "held-out text"}
    distances = {kind: found.distance for kind, found in quality.found.items()}
    label = "edits over tokens to the nearest training sentence"
    parts = [_histogram(distances, names, np.linspace(0, 1, 41), label)]
    for kind, heading in (("synthetic", "The samples"), ("real", "For comparison, the held-out sentences")):
        parts.append(f"<h3>{heading} that are nearest to a training sentence</h3>")
        parts.append(_cases(quality.worst[kind]) if quality.worst[kind] else "<p>None shares anything with one.</p>")
    return parts


def _cases(rows: Sequence[Mapping[str, Any]]) -> str:
    """Pairs of sentences, with the words marked in which they differ."""
    head = "<thead><tr><th>distance, overlap</th><th>sentence</th><th>nearest training sentence</th></tr></thead>"
    body = []
    for row in rows:
        own, other = _marked(row["text"], row["nearest"])
        numbers = f"{row['distance']:.2f}, {row['overlap']:.0%}"
        body.append(f"<tr><td>{numbers}</td><td>{own}</td><td>{other}</td></tr>")
    return "\n".join([f'<table class="cases">{head}<tbody>', *body, "</tbody></table>"])


def _marked(own: str, other: str) -> tuple[str, str]:
    words = own.split(), other.split()
    shown: tuple[list[str], list[str]] = ([], [])
    for tag, *bounds in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side in (0, 1):
            text = html.escape(" ".join(words[side][bounds[2 * side] : bounds[2 * side + 1]]))
            if text:
                shown[side].append(text if tag == "equal" else f"<mark>{text}</mark>")
    return " ".join(shown[0]), " ".join(shown[1])


def _histogram(values: Mapping[str, np.ndarray], names: Mapping[str, str], edges: np.ndarray, label: str) -> str:
    def draw(axes: "Axes") -> None:
        for kind, each in values.items():
            share = np.full(len(each), 100 / max(len(each), 1))
            style = {"histtype": "stepfilled", "alpha": 0.25} if kind == "synthetic" else {"histtype": "step"}
            axes.hist(each, edges, weights=share, color=COLOURS[kind], label=names[kind], **style)
            if kind == "synthetic":
                axes.hist(each, edges, weights=share, color=COLOURS[kind], histtype="step")
        axes.set(xlabel=label, ylabel="sentences (%)")
        axes.legend(frameon=False)

    return inline_svg(draw)
