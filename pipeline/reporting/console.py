"""Text for the eye: interpolation blocks, and experiments side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROWS = (
    ("validation/cross_entropy", "validation cross-entropy (nats a token)", ".3f"),
    ("validation/perplexity", "validation perplexity", ".2f"),
    ("validation/end_cross_entropy", "… of the end token (nats)", ".3f"),
    ("validation/reconstruction_bleu", "validation reconstruction BLEU", ".1f"),
    ("test/reconstruction_bleu", "test reconstruction BLEU", ".1f"),
    ("test/reconstruction_perplexity", "test reconstruction perplexity", ".2f"),
    ("validation/vectors_kept", "vectors kept (a sentence)", ".1f"),
    ("validation/vectors_kept_fraction", "vectors kept (share)", ".1%"),
    ("validation/alpha0", "pseudo-counts alpha0 (a sentence)", ".1f"),
    ("validation/kl_gaussian", "KL_G (nats a dimension)", ".3f"),
    ("validation/kl_dirichlet", "KL_D (nats a component)", ".4f"),
    ("samples/mean_length", "mean length of samples (tokens)", ".1f"),
    ("interpolation/tau_0.5/bleu_source", "halfway: BLEU to the source", ".1f"),
    ("interpolation/tau_0.5/bleu_target", "halfway: BLEU to the target", ".1f"),
    ("interpolation/tau_0.5/novel_fraction", "halfway: novel sentences", ".1%"),
)


def interpolation_blocks(rows: Sequence[dict[str, Any]]) -> str:
    """One block a pair: its two sentences, and what lies between them at each tau."""
    blocks = []
    for row in rows:
        lines = [f"source  {row['source']}"]
        lines += [f"  {tau:<5} {text}" for tau, text in row["outputs"].items()]
        blocks.append("\n".join([*lines, f"target  {row['target']}"]))
    return "\n\n".join(blocks) + "\n"


def beside_real_text(own: dict[str, float], real: dict[str, float]) -> str:
    """Figures of sentences beside those of real text, a line each."""
    width = max(map(len, own))
    rows = [f"  {name:<{width}} {value:9.4g} {real[name]:9.4g}" for name, value in own.items()]
    return "\n".join([f"  {'':<{width}} {'samples':>9} {'real text':>9}", *rows])


def side_by_side(experiments: dict[str, dict[str, Any]]) -> str:
    """A table of experiments' summaries, a column each; a figure that is missing shows a dash."""
    label_width = max(len(label) for _, label, _ in ROWS)
    widths = {name: max(len(name), 10) for name in experiments}
    lines = [" " * label_width + "".join(f"  {name:>{widths[name]}}" for name in experiments)]
    lines.append("-" * len(lines[0]))
    for key, label, form in ROWS:
        values = [format(s[key], form) if s.get(key) is not None else "–" for s in experiments.values()]
        if set(values) == {"–"}:
            continue
        cells = (f"  {value:>{widths[name]}}" for name, value in zip(experiments, values, strict=True))
        lines.append(f"{label:<{label_width}}" + "".join(cells))
    return "\n".join(lines)


def files_written(folder: Path) -> str:
    """The files of an experiment, a line each, with their sizes."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    return "\n".join(f"  {path}  ({_size(path.stat().st_size)})" for path in paths)


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
