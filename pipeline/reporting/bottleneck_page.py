"""Plots and page of `regularisation.py`: vectors kept, pseudo-counts by token, and sentences shaded by them."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.bottleneck import LEAST_OCCURRENCES, Bottleneck
from pipeline.runtime.plotting import figure

BLUE, RED = "#4477aa", "#cc6677"


def draw_kept(bottleneck: Bottleneck, path: Path) -> None:
    """Plot vectors kept against sentence length, with the line of a fixed share.

    Args:
        bottleneck: measurements of a split.
        path: path of the PNG; a PDF is written beside it.
    """
    share = bottleneck.kept.sum() / bottleneck.lengths.sum()
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, (2, len(bottleneck.kept)))
    line = np.array([0, bottleneck.lengths.max()])
    with figure(path, also=(".pdf",)) as axes:
        axes.scatter(bottleneck.lengths + spread[0], bottleneck.kept + spread[1], s=3, alpha=0.3, color=BLUE, lw=0)
        axes.plot(line, share * line, color=RED, label=f"a fixed share of {share:.0%} (VTS)")
        axes.plot(line, line + 1, color="gray", linestyle=":", label="every vector and the prior's")
        axes.set(xlabel="tokens, end token counted", ylabel="vectors kept")
        axes.legend(frameon=False)


def draw_alpha_by_token(rows: Sequence[tuple[int, int, float]], names: Sequence[str], path: Path) -> None:
    """Plot the tokens with the largest and the smallest mean pseudo-counts, 20 of each.

    Args:
        rows: rows of `pipeline.evaluation.bottleneck.alpha_by_token`.
        names: names of their tokens.
        path: path of the PNG; a PDF is written beside it.
    """
    shown = list(zip(names, (mean for _, _, mean in rows), strict=True))
    shown = shown if len(shown) <= 40 else [*shown[:20], *shown[-20:]]
    with figure(path, height=1.0 + 0.17 * len(shown), also=(".pdf",)) as axes:
        axes.barh(range(len(shown)), [mean for _, mean in shown], color=BLUE)
        axes.set_yticks(range(len(shown)), [_plain(name) for name, _ in shown], fontsize=7)
        axes.invert_yaxis()
        axes.set(xlabel="mean pseudo-count", title=f"tokens that occur {LEAST_OCCURRENCES} times or more")


def draw_alpha_by_frequency(bottleneck: Bottleneck, frequency: np.ndarray, path: Path) -> None:
    """Plot pseudo-counts against the frequency of the token: median and quartiles in bins of a third of a decade.

    Args:
        bottleneck: measurements of a split.
        frequency: [V], occurrences of each token in the training split.
        path: path of the PNG; a PDF is written beside it.
    """
    common, alpha = frequency[bottleneck.tokens], np.exp(bottleneck.log_alpha)
    bins = np.floor(3 * np.log10(np.maximum(common, 1))).astype(int)
    used = np.unique(bins)
    quartiles = np.array([np.percentile(alpha[bins == number], (25, 50, 75)) for number in used])  # [bins, 3]
    with figure(path, also=(".pdf",)) as axes:
        middle = 10 ** ((used + 0.5) / 3)
        axes.fill_between(middle, quartiles[:, 0], quartiles[:, 2], color=BLUE, alpha=0.3, lw=0, label="middle half")
        axes.plot(middle, quartiles[:, 1], color=BLUE, marker="o", markersize=3, label="median")
        axes.set(xscale="log", xlabel="occurrences in the training split", ylabel="pseudo-count")
        axes.legend(frameon=False)


def shaded_page(bottleneck: Bottleneck, names: Sequence[str], threshold: float, title: str, count: int = 200) -> str:
    """Write an HTML page of sentences whose tokens are shaded by their pseudo-counts.

    Args:
        bottleneck: measurements of a split.
        names: [T], names of the tokens.
        threshold: pseudo-count below which a token's vector is dropped and its name crossed out.
        title: title of the page.
        count: number of sentences shown, from the first.

    Returns:
        The page.
    """
    ends = np.cumsum(bottleneck.lengths)
    alpha = np.exp(bottleneck.log_alpha)
    finite = bottleneck.log_alpha[np.isfinite(bottleneck.log_alpha)]
    low, high = (float(np.percentile(finite, share)) for share in (2, 98)) if len(finite) else (0.0, 0.0)
    lines = []
    for start, end, kept in zip(ends - bottleneck.lengths, ends, bottleneck.kept, strict=True):
        if len(lines) == count:
            break
        words = []
        for position in range(start, end):
            depth = min(max((bottleneck.log_alpha[position] - low) / max(high - low, 1e-9), 0.0), 1.0)
            dropped = ' class="dropped"' if alpha[position] < threshold else ""
            words.append(
                f'<span{dropped} style="background: rgba(68, 119, 170, {0.85 * depth:.2f})" '
                f'title="{alpha[position]:.3g}">{html.escape(names[position])}</span>'
            )
        lines.append(f"<p>{' '.join(words)} <small>{kept} of {end - start + 1} vectors</small></p>")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f"<title>{html.escape(title)}</title>",
            "<style>body { font: 16px/1.7 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }",
            "span { padding: 0.1em 0.15em; border-radius: 0.2em } small { color: #666; margin-left: 1em }",
            ".dropped { text-decoration: line-through; color: #888 }</style>\n</head>\n<body>",
            f"<h1>{html.escape(title)}</h1>",
            "<p>The darker a token, the larger its pseudo-count (logarithmic; hover for the number). Crossed out are "
            f"those below {threshold:g}, whose vectors are dropped. The prior's own vector counts as kept.</p>",
            *lines,
            "</body>\n</html>\n",
        ]
    )


def _plain(name: str) -> str:
    """Escape the dollar signs of a token, which matplotlib reads as mathematics."""
    return name.replace("$", r"\$")
