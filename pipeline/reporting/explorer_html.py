"""HTML of a view of two texts. Texts are escaped, and the page fetches nothing."""

from collections.abc import Sequence
from html import escape

from pipeline.reporting.explorer_view import Attention, Vectors, View

CELL, LABEL, LETTER = 17, 96, 6.2  # pixels: side of a cell, width of the rows' names, width of a letter
SIDES = ("a", "b", "both")

# All pictures share one colour for each sentence. Everything else has the colour of the page, light or dark.
CSS = """
.nvib { --a: 37, 99, 235; --b: 217, 119, 6; --both: 13, 148, 136; font-size: 15px; line-height: 1.5; }
.nvib h3 { margin: 22px 0 6px; font-size: 15px; font-weight: 600; }
.nvib h2 { margin: 4px 0 2px; font-size: 19px; font-weight: 700; }
.nvib .quiet, .nvib .note { opacity: 0.7; font-size: 13.5px; margin: 0 0 6px; }
.nvib .note { border-left: 3px solid currentColor; padding: 2px 10px; margin: 8px 0; }
.nvib .line { display: flex; align-items: baseline; margin: 6px 0; }
.nvib .line span { flex: 0 0 74px; opacity: 0.7; font-size: 13.5px; font-variant-numeric: tabular-nums; }
.nvib .line p { flex: 1; margin: 0; padding: 1px 0 1px 10px; border-left: 3px solid rgb(var(--both)); }
.nvib .line.a p { border-color: rgb(var(--a)); }
.nvib .line.b p { border-color: rgb(var(--b)); }
.nvib .line.between p { font-weight: 600; font-size: 16.5px; }
.nvib .tokens { display: flex; flex-wrap: wrap; gap: 4px; padding: 2px 0 14px; align-items: baseline; }
.nvib .token { padding: 1px 6px; border-radius: 5px; white-space: pre; }
.nvib .a .token { background: rgba(var(--a), var(--shade)); }
.nvib .b .token { background: rgba(var(--b), var(--shade)); }
.nvib .token.dropped { background: none; outline: 1px dashed currentColor; opacity: 0.45;
  text-decoration: line-through; }
.nvib .token small { font-size: 10.5px; opacity: 0.75; padding-left: 4px; font-variant-numeric: tabular-nums; }
.nvib .map { overflow-x: auto; }
.nvib svg { display: block; overflow: visible; font-size: 12px; }
.nvib svg text { fill: currentColor; }
.nvib svg .cells { fill: currentColor; fill-opacity: 0.04; }
.nvib svg .of-a { fill: rgb(var(--a)); }
.nvib svg .of-b { fill: rgb(var(--b)); }
.nvib svg .of-both { fill: rgb(var(--both)); }
.nvib ol { margin: 4px 0; padding-left: 24px; }
.nvib ol li { margin: 3px 0; }
"""


def note(text: str) -> str:
    """Line that says why something is not shown."""
    return f'<p class="note">{escape(text)}</p>'


def titled(name: str, summary: str, body: str) -> str:
    """Part of the page that belongs to a model."""
    return f'<div class="nvib"><h2>{escape(name)}</h2><p class="quiet">{escape(summary)}</p>{body}</div>'


def drawn(view: View, tau: float) -> str:
    """HTML of a view: texts, vectors of both texts, attention.

    Args:
        view: the view.
        tau: position of the text between the two, in [0, 1].
    """
    # Without the prior's pseudo-count, which may be far from those of the tokens.
    largest = max((max(of_text.alpha[1:]) for of_text in view.vectors if of_text.alpha), default=0.0)
    return (
        _lines(view, tau)
        + "<h3>The latent’s vectors</h3>"
        + "".join(_tokens(of_text, side, largest) for of_text, side in zip(view.vectors, SIDES, strict=False))
        + "<h3>Attention: generated tokens (rows) to vectors (columns)</h3>"
        + heat_map(view.attention)
    )


def listed(texts: Sequence[str]) -> str:
    """Numbered list of texts."""
    return "<ol>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ol>"


def _lines(view: View, tau: float) -> str:
    """Reconstructions of both texts, with the text between them."""
    rows = (("a", "0", view.ends[0]), ("between", f"{tau:.2f}", view.text), ("b", "1", view.ends[1]))
    return "".join(
        f'<div class="line {side}"><span>τ = {at}</span><p>{escape(text)}</p></div>' for side, at, text in rows
    )


def _tokens(vectors: Vectors, side: str, largest: float) -> str:
    """Tokens of a text, shaded by their pseudo-counts relative to the largest."""
    kept, count = vectors.count
    caption = f"{kept} of {count} vectors kept"
    if vectors.alpha is None:
        caption += "; the model has no pseudo-counts to shade them by"
        spans = [_token(name, 0.3 if keeps else None) for name, keeps in zip(vectors.names, vectors.kept, strict=True)]
    else:
        caption += f", α₀ = {sum(vectors.alpha):.1f}"
        spans = [
            _token(name, 0.05 + 0.75 * min(alpha / max(largest, 1e-9), 1.0) if keeps else None, alpha)
            for name, keeps, alpha in zip(vectors.names, vectors.kept, vectors.alpha, strict=True)
        ]
    return f'<div class="{side}"><p class="quiet kept">{caption}</p><div class="tokens">{"".join(spans)}</div></div>'


def _token(name: str, shade: float | None, alpha: float | None = None) -> str:
    """A token with its pseudo-count; crossed out if it has no shade."""
    number = "" if alpha is None else f"<small>{alpha:.2g}</small>"
    if shade is None:
        return f'<span class="token dropped">{escape(name)}{number}</span>'
    return f'<span class="token" style="--shade: {shade:.2f}">{escape(name)}{number}</span>'


def heat_map(attention: Attention) -> str:
    """SVG of attention weights: a row for each generated token, a column for each vector in its text's colour."""
    if not attention.tokens:
        return note("nothing was generated")
    head = 14 + round(LETTER * max(len(_short(name)) for name in attention.vectors))  # height of the columns' names
    width, height = (CELL * len(names) for names in (attention.vectors, attention.tokens))
    parts = [f'<rect class="cells" x="{LABEL}" y="{head}" width="{width}" height="{height}"/>']
    for k, (name, side) in enumerate(zip(attention.vectors, attention.sides, strict=True)):
        x = LABEL + CELL * (k + 0.5) + 4
        place = f'transform="translate({x:g},{head - 6}) rotate(-60)"'
        parts.append(f'<text class="of-{SIDES[side]}" {place}>{escape(_short(name))}</text>')
    for t, (name, weights) in enumerate(zip(attention.tokens, attention.weights, strict=True)):
        y = head + CELL * t
        parts.append(f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(_short(name))}</text>')
        for k, weight in enumerate(weights):
            if weight >= 0.005:  # smaller weights are invisible
                title = f"{escape(name)} ← {escape(attention.vectors[k])}: {weight:.2f}"
                parts.append(
                    f'<rect class="of-{SIDES[attention.sides[k]]}" x="{LABEL + CELL * k + 1}" y="{y + 1}" '
                    f'width="{CELL - 2}" height="{CELL - 2}" rx="2" fill-opacity="{weight:.2f}">'
                    f"<title>{title}</title></rect>"
                )
    size = f'width="{LABEL + width + 60}" height="{head + height + 4}"'
    return f'<div class="map"><svg {size} role="img" aria-label="attention">{"".join(parts)}</svg></div>'


def _short(name: str) -> str:
    """Cut a name to 12 letters."""
    return name if len(name) <= 12 else name[:11] + "…"
