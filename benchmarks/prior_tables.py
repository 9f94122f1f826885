"""Tables and figures of docs/priors.md; `benchmarks.doc_tables` writes the tables."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.doc_facts import over_seeds, table
from pipeline.data.base_models import BUNDLED
from pipeline.runtime.plotting import panels

NAMES = {
    "plain": "plain prior",
    "mixture": "mixture over tokens",
    "embeddings": "mixture over embeddings",
    "flow": "flow over the set",
    "flow-ordered": "flow in reading order",
    "vectors": "autoregressive over vectors",
    "autoregressive": "autoregressive over tokens",
}
FIGURES = {"forward_perplexity": ("F-PPL", 1), "mauve": ("MAUVE", 3), "distinct_2": ("distinct-2", 3)}
COLUMNS = {  # of the comparison of priors
    "rate": ("rate", 1),
    "forward_perplexity": ("F-PPL", 1),
    "reverse_perplexity": ("R-PPL", 0),
    **FIGURES,
}
BLEUS = ("same_draw_bleu", "different_draws_bleu")
LETTERS = 100  # of a sample in the figure, at most
ESCAPED = "\\|"  # a vertical line in a cell


def labelled(results: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return all rows with their labels: real text, the language model, then each prior."""
    writer = results["language_model"]
    # MAUVE compares for equal numbers of texts alone, and the held-out split may have fewer than the samples are.
    real = results["real"] | {"mauve": writer["mauve_of_real_text"]}
    references = [("real text", real), ("language model's own samples", writer)]
    return references + [(NAMES[row["prior"]], row) for row in results["rows"]]


def decoded(row: Mapping[str, Any], top_p: float) -> str:
    """Say how the tokens of a row were chosen."""
    return {None: "–", "greedy": "greedy", "sample": f"top-p {top_p:g}"}[row["decoding"]]


def priors(results: Mapping[str, Any]) -> str:
    """Format the figures of `benchmarks.priors`, and the first two samples of each prior."""
    rows = labelled(results)
    columns = {key: shown for key, shown in COLUMNS.items() if any(row.get(key) is not None for _, row in rows)}
    header = ("", "tokens", *(label for label, _ in columns.values()), "BLEU same / different draws", "seconds")

    def cells(label: str, row: Mapping[str, Any]) -> list[str]:
        same, different = (row.get(name) for name in BLEUS)
        return [
            label,
            decoded(row, results["top_p"]),
            *(over_seeds([row.get(key)], digits) for key, (_, digits) in columns.items()),
            "–" if same is None or different is None else f"{same:.2f} / {different:.2f}",
            f"{row['seconds']:.0f}" if "seconds" in row else "–",
        ]

    updates = ", ".join(
        f"{NAMES[row['prior']]} {row['updates']:,} updates"
        for row in results["rows"]
        if "updates" in row and row["decoding"] == "greedy"
    )
    caption = (
        f"Caption: `{results['data']}`, {results['count']:,} samples each, seed {results['seed']}; real text is the "
        f"{results['subset']} split, and for MAUVE as many other training texts"
        + (f"; {results['minutes']:g} minutes of training for each prior with updates" if updates else "")
        + (f" ({updates})" if updates else "")
        + ("; the rate in nats a vector" if "rate" in columns else "")
        + ("; the judge is the untouched base, MAUVE over MiniLM" if results.get("judge") == BUNDLED else "")
        + (f"; R-PPL after at most {results['reverse_steps']} steps" if results.get("reverse_steps") else "")
        + f"; seconds to draw the samples; {results['machine']} (load {results['load']:g}), "
        f"torch {results['torch']}, {results['date']}."
    )
    shown = [(label, text.replace("|", ESCAPED)) for label, row in rows if for_reading(row) for text in row["examples"]]
    examples = "".join(f"| {label} | {text} |\n" for label, text in shown)
    return (
        f"{caption}\n\n{table(header, (cells(*row) for row in rows))}\n"
        f"The first two samples of each, unchosen, with greedy tokens where a latent decides:\n\n"
        f"|  | sample |\n| --- | --- |\n{examples}"
    )


WAYS = {
    "none": "as before",
    "drop": "vectors dropped, up to 85 %, 40 % of texts whole",
    "half": "the same, up to 50 %",
    "full": "the same, up to 85 %, 70 % of texts whole",
    "hot": "posterior at temperatures up to 2, 40 % of texts at 1",
    "double": "components doubled (`--KAPPA 2`)",
}


def imperfect_latents(results: Mapping[str, Any]) -> str:
    """Format the figures of `benchmarks.imperfect_latents`: the mean over the seeds, and their standard deviation."""

    def cells(label: str, rows: Sequence[Mapping[str, Any]], prior: str) -> list[str]:
        found = [row[prior] for row in rows]
        own = prior != "real"
        return [
            label,
            str(len(rows)) if own else "–",
            *(over_seeds([row[key] for row in rows], 1) if own else "–" for key in ("bleu", "rate")),
            *(over_seeds([one[key] for one in found], digits) for key, (_, digits) in FIGURES.items()),
            *(over_seeds([one.get(key) for one in found], 2) for key in BLEUS),
        ]

    head = ("", "seeds", "BLEU", "rate", *(label for label, _ in FIGURES.values()), "same draw", "different draws")
    tables = []
    for prior in ("plain", "learned"):
        shown: list[tuple[str, Sequence[Mapping[str, Any]], str]] = [("real text", results["rows"][:1], "real")]
        shown += [(label, [row for row in results["rows"] if row["way"] == way], prior) for way, label in WAYS.items()]
        tables.append(table((f"{prior} prior", *head[1:]), (cells(*one) for one in shown if one[1])))
    caption = (
        f"Caption: `{results['data']}`, {results['steps']} further steps from `rate-30` at 30 nats a vector, "
        f"{results['count']} samples each, top-p 0.95 (the learned prior too, its draws at latent temperature 1); "
        "BLEU of the validation split; mean ± standard deviation over the seeds; "
        f"{results['machine']}, {results['threads']} thread beside other work, {results['date']}."
    )
    return f"{caption}\n\n" + "\n".join(tables)


def for_reading(row: Mapping[str, Any]) -> bool:
    """True for a row whose samples are shown: greedy ones, where the model has a latent."""
    return "prior" not in row or row["decoding"] == "greedy"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw a row for each prior: F-PPL, MAUVE and distinct-2 by decoding, and its first two samples.

    Args:
        results: content of priors.json.
        path: file to write.
    """
    rows = labelled(results)
    references = rows[0][1], rows[1][1]
    names = list(dict.fromkeys(label for label, _ in rows))
    places = {label: place for place, label in enumerate(names)}
    with panels(path, 1, 4, 13.0, 1.2 + 0.62 * len(names)) as every:
        for axes, (key, (label, _)) in zip(every, FIGURES.items(), strict=False):
            for decoding, color in ((None, "0.4"), ("greedy", "C0"), ("sample", "C1")):
                chosen = [(name, row) for name, row in rows if row["decoding"] == decoding and row[key] is not None]
                said = {None: "real text", "greedy": "greedy", "sample": f"top-p {results['top_p']:g}"}[decoding]
                values = [row[key] for _, row in chosen]
                axes.plot(values, [places[name] for name, _ in chosen], "o", color=color, label=said)
            for reference, color in zip(references, ("0.4", "C1"), strict=True):
                if reference[key] is not None:
                    axes.axvline(reference[key], color=color, lw=1, ls=":")
            axes.set(xlabel=label, ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
            axes.set_yticklabels(names if key == "forward_perplexity" else [])
        every[0].set_xscale("log")
        every[0].legend(frameon=False, fontsize=7, loc="upper left")
        every[3].axis("off")
        every[3].set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1))
        for label, row in rows:
            if for_reading(row):
                text = "\n".join(textwrap.shorten(example, LETTERS, placeholder=" …") for example in row["examples"])
                # A dollar sign begins a formula.
                every[3].text(0, places[label], text.replace("$", "\\$"), fontsize=6.5, va="center")
