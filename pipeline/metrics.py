"""Scores of generated text."""

from collections.abc import Sequence
from typing import Any


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """sacrebleu's corpus BLEU in [0, 100], and its signature (Post 2018)."""
    from sacrebleu.metrics import BLEU

    # `force` silences a warning about tokenized text: the paper's preprocessing leaves spaces before nothing.
    metric = BLEU(force=True)
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return score.score, str(metric.get_signature())


def reconstruction_figures(rows: Sequence[dict[str, Any]], perplexity: float) -> dict[str, float | str]:
    """BLEU, its signature and the share of exact reconstructions, with the perplexity beside them.

    Args:
        rows: as `pipeline.generation.reconstruct` returns them.
        perplexity: of the same sentences.
    """
    bleu, signature = corpus_bleu([row["reconstruction"] for row in rows], [row["source"] for row in rows])
    return {
        "reconstruction_bleu": bleu,
        "reconstruction_bleu_signature": signature,
        "reconstruction_perplexity": perplexity,
        "reconstruction_exact_fraction": sum(row["exact"] for row in rows) / len(rows),
    }


def interpolation_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float | str]:
    """BLEU against each end, and the share of outputs that equal neither end, for each tau.

    Args:
        rows: as `pipeline.generation.interpolations` returns them.

    Returns:
        `interpolation/tau_<tau>/bleu_source`, `…/bleu_target`, `…/novel_fraction`, and the signature.
    """
    sources, targets = ([row[end] for row in rows] for end in ("source", "target"))
    figures: dict[str, float | str] = {"interpolation/pairs": len(rows)}
    for tau in rows[0]["outputs"]:
        outputs = [row["outputs"][tau] for row in rows]
        name = f"interpolation/tau_{tau}"
        figures[f"{name}/bleu_source"], signature = corpus_bleu(outputs, sources)
        figures[f"{name}/bleu_target"], _ = corpus_bleu(outputs, targets)
        figures[f"{name}/novel_fraction"] = len(novel_outputs(rows, tau)) / len(rows)
        figures["interpolation/bleu_signature"] = signature
    return figures


def novel_outputs(rows: Sequence[dict[str, Any]], tau: str) -> list[str]:
    """The interpolations at `tau` that equal neither end."""
    return [row["outputs"][tau] for row in rows if row["outputs"][tau] not in (row["source"], row["target"])]
