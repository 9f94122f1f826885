"""What a nonparametric bottleneck keeps: vectors against length, pseudo-counts by token, and sentences shaded."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.text_model import TextModel
from pipeline.data.batches import Batch
from pipeline.runtime.plotting import figure

LEAST_OCCURRENCES = 20  # of a token that is shown by itself
BLUE, RED = "#4477aa", "#cc6677"


@dataclass(frozen=True)
class Bottleneck:
    """What the bottleneck did to M sentences of together T tokens.

    Args:
        lengths: [M], tokens of each, the end token counted.
        kept: [M], vectors kept, the prior's counted.
        tokens: [T], ids, sentence after sentence.
        log_alpha: [T], natural log of each token's pseudo-count; -inf is a count of zero.
    """

    lengths: np.ndarray
    kept: np.ndarray
    tokens: np.ndarray
    log_alpha: np.ndarray


@torch.inference_mode()
def read_bottleneck(model: TextModel, batches: Iterable[Batch]) -> Bottleneck:
    """Encode sentences and read what was kept; the model's encodings must have a posterior."""
    model.eval()
    parts: dict[str, list[np.ndarray]] = {"lengths": [], "kept": [], "tokens": [], "log_alpha": []}
    for batch in batches:
        encoding = model.encode(batch.source, batch.key_padding_mask)
        real = ~batch.key_padding_mask
        for name, value in (
            ("lengths", real.sum(dim=-1)),
            ("kept", encoding.vectors_kept),
            ("tokens", batch.source[real]),
            ("log_alpha", encoding.posterior.log_alpha[:, 1:][real]),
        ):
            parts[name].append(value.cpu().numpy())
    return Bottleneck(**{name: np.concatenate(values) for name, values in parts.items()})


def regularisation_figures(bottleneck: Bottleneck, frequency: np.ndarray) -> dict[str, float]:
    """What is kept, in numbers.

    Args:
        bottleneck: of a split.
        frequency: [V], how often each token stands in the training split.

    Returns:
        `vectors_kept`, its standard deviation and correlation with the length, `unexplained_by_length` (left out
        where nothing varies), and `alpha_frequency_correlation`: Spearman's, of a token's pseudo-count with how
        often the training split holds it.
    """
    kept, lengths = bottleneck.kept.astype(float), bottleneck.lengths.astype(float)
    figures = {"vectors_kept": kept.mean(), "vectors_kept_deviation": kept.std()}
    if kept.std() > 0 and lengths.std() > 0:
        figures["length_correlation"] = np.corrcoef(kept, lengths)[0, 1]
    unexplained = unexplained_by_length(bottleneck.kept, bottleneck.lengths)
    if unexplained is not None:
        figures["unexplained_by_length"] = unexplained
    ranks = [_ranks(values) for values in (frequency[bottleneck.tokens], bottleneck.log_alpha)]
    if all(rank.std() > 0 for rank in ranks):
        figures["alpha_frequency_correlation"] = np.corrcoef(*ranks)[0, 1]
    return {name: float(value) for name, value in figures.items()}


def unexplained_by_length(kept: np.ndarray, lengths: np.ndarray) -> float | None:
    """The share of the variance of the number kept that no function of the length explains.

    The variance within sentences of equal length over the whole variance, both unbiased, so that a length that
    few sentences have does not pass for an explanation.

    Args:
        kept: [M], vectors kept.
        lengths: [M], tokens.

    Returns:
        0 where the length decides; 1 where it says nothing (by chance a little above); None where the number kept
        does not vary, or no two sentences have one length.
    """
    kept = kept.astype(float)
    _, groups = np.unique(lengths, return_inverse=True)
    counts = np.bincount(groups)
    free = len(kept) - len(counts)
    if free == 0 or kept.var() == 0:
        return None
    means = np.bincount(groups, kept) / counts
    within = np.square(kept - means[groups]).sum() / free
    return float(within / kept.var(ddof=1))


def alpha_by_token(bottleneck: Bottleneck) -> list[tuple[int, int, float]]:
    """Tokens that occur at least `LEAST_OCCURRENCES` times: id, occurrences, mean pseudo-count, the largest first."""
    counts = np.bincount(bottleneck.tokens)
    means = np.bincount(bottleneck.tokens, np.exp(bottleneck.log_alpha)) / np.maximum(counts, 1)
    ids = np.flatnonzero(counts >= LEAST_OCCURRENCES)
    ids = ids[np.argsort(-means[ids], kind="stable")]
    return [(int(index), int(counts[index]), float(means[index])) for index in ids]


def draw_kept(bottleneck: Bottleneck, path: Path) -> None:
    """Vectors kept against sentence length, with the line of a fixed share; PNG and PDF."""
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
    """The tokens with the largest and the smallest pseudo-counts; PNG and PDF.

    Args:
        rows: of `alpha_by_token`.
        names: of their tokens.
        path: of the PNG.
    """
    shown = list(zip(names, (mean for _, _, mean in rows), strict=True))
    shown = shown if len(shown) <= 40 else [*shown[:20], *shown[-20:]]
    with figure(path, height=1.0 + 0.17 * len(shown), also=(".pdf",)) as axes:
        axes.barh(range(len(shown)), [mean for _, mean in shown], color=BLUE)
        axes.set_yticks(range(len(shown)), [_plain(name) for name, _ in shown], fontsize=7)
        axes.invert_yaxis()
        axes.set(xlabel="mean pseudo-count", title=f"tokens that occur {LEAST_OCCURRENCES} times or more")


def draw_alpha_by_frequency(bottleneck: Bottleneck, frequency: np.ndarray, path: Path) -> None:
    """Pseudo-counts by how often the training split holds a token, in decades' thirds; PNG and PDF."""
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
    """An HTML page of sentences whose tokens are shaded by their pseudo-counts.

    Args:
        bottleneck: of a split.
        names: [T], the tokens as the vocabulary writes them.
        threshold: tokens with a smaller pseudo-count are dropped, and crossed out.
        title: of the page.
        count: sentences shown, from the first.
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


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean rank."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    return (first + (counts - 1) / 2)[groups]


def _plain(name: str) -> str:
    """A token without what matplotlib would read as mathematics."""
    return name.replace("$", r"\$")
