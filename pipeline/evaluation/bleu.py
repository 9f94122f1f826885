"""BLEU of reconstructions and interpolations."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from sacrebleu.metrics.bleu import BLEU

PART = 2500  # sentences that one task scores, in less than a second


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Compute sacrebleu's corpus BLEU (Post 2018).

    Args:
        hypotheses: generated sentences.
        references: a reference for each.

    Returns:
        BLEU in [0, 100], and its signature.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
    """
    return corpus_bleus([(hypotheses, references)])[0]


def corpus_bleus(corpora: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[tuple[float, str]]:
    """Compute `corpus_bleu` of several corpora, on all cores if there are many sentences.

    BLEU is a function of sums over sentences: each task returns the sums of a part of a corpus.

    Args:
        corpora: hypotheses and references of each corpus.

    Returns:
        BLEU and signature of each corpus.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
    """
    for hypotheses, references in corpora:
        if len(hypotheses) != len(references):
            raise ValueError(f"references must be as many as hypotheses, got {len(references)} and {len(hypotheses)}")
    tasks = [
        (number, hypotheses[start : start + PART], references[start : start + PART])
        for number, (hypotheses, references) in enumerate(corpora)
        for start in range(0, len(hypotheses), PART)
    ]
    sums = [[0] * 10 for _ in corpora]
    signatures = [""] * len(corpora)
    few = sum(len(hypotheses) for hypotheses, _ in corpora) <= PART  # decided here: a process costs more
    for number, counted, signatures[number] in (map if few else _on_all_cores)(_count_ngrams, tasks):
        sums[number] = [one + other for one, other in zip(sums[number], counted, strict=True)]
    return [(_score(own), signature) for own, signature in zip(sums, signatures, strict=True)]


def _score(sums: list[int]) -> float:
    """BLEU of the sums of `_count_ngrams`, with the smoothing that the signature names."""
    found = BLEU.compute_bleu(sums[0:4], sums[4:8], sys_len=sums[8], ref_len=sums[9], smooth_method="exp")
    return found.score


def _count_ngrams(task: tuple[int, Sequence[str], Sequence[str]]) -> tuple[int, list[int], str]:
    """Count n-grams of a part of a corpus.

    Args:
        task: number of the corpus, hypotheses, references.

    Returns:
        Number of the corpus; matching n-grams and all n-grams of 1 to 4 tokens and both lengths, 10 numbers; signature.
    """
    number, hypotheses, references = task
    # `force` silences a warning about tokenized text, which the paper's preprocessing makes.
    metric = BLEU(force=True)
    score = metric.corpus_score(list(hypotheses), [list(references)])
    return number, [*score.counts, *score.totals, score.sys_len, score.ref_len], str(metric.get_signature())


def _on_all_cores(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
    """Call a function on each task, in several processes if there are several tasks and cores.

    Yields:
        The results in the order of the tasks.
    """
    cores = min(os.cpu_count() or 1, len(tasks))
    if cores < 2:
        yield from map(function, tasks)
        return
    # A fork of a process with threads may hang. A spawned process imports only what it needs.
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, tasks)


def reconstruction_figures(rows: Sequence[dict[str, Any]], perplexity: float) -> dict[str, float | str]:
    """Score reconstructions of a split.

    Args:
        rows: as `pipeline.generation.generate.reconstruct` returns them.
        perplexity: perplexity of the model on the same sentences.

    Returns:
        `reconstruction_bleu` in [0, 100] with its signature, `reconstruction_perplexity`, and
        `reconstruction_exact_fraction`, the share of sentences reconstructed word for word.
    """
    bleu, signature = corpus_bleu([row["reconstruction"] for row in rows], [row["source"] for row in rows])
    return {
        "reconstruction_bleu": bleu,
        "reconstruction_bleu_signature": signature,
        "reconstruction_perplexity": perplexity,
        "reconstruction_exact_fraction": sum(row["exact"] for row in rows) / len(rows),
    }


def interpolation_figures(rows: Sequence[dict[str, Any]]) -> dict[str, float | str]:
    """Score interpolations at each tau.

    Args:
        rows: as `pipeline.generation.generate.interpolations` returns them.

    Returns:
        BLEU in [0, 100] to each end, `interpolation/tau_<tau>/bleu_source` and `…/bleu_target`, and the share of
        outputs that equal neither end, `…/novel_fraction`; the number of pairs, and the signature.
    """
    sources, targets = ([row[end] for row in rows] for end in ("source", "target"))
    outputs_of = {tau: [row["outputs"][tau] for row in rows] for tau in rows[0]["outputs"]}
    scores = iter(corpus_bleus([(outputs, ends) for outputs in outputs_of.values() for ends in (sources, targets)]))
    figures: dict[str, float | str] = {"interpolation/pairs": len(rows)}
    for tau in outputs_of:
        name = f"interpolation/tau_{tau}"
        figures[f"{name}/bleu_source"], signature = next(scores)
        figures[f"{name}/bleu_target"], _ = next(scores)
        figures[f"{name}/novel_fraction"] = len(novel(rows, tau)) / len(rows)
        figures["interpolation/bleu_signature"] = signature
    return figures


def novel(rows: Sequence[dict[str, Any]], tau: str) -> list[dict[str, Any]]:
    """Return the rows whose interpolation at `tau` equals neither end."""
    return [row for row in rows if row["outputs"][tau] not in (row["source"], row["target"])]
