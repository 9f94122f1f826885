"""Every figure of an experiment, declared once: keys, labels, unit, decimals, and what it is measured on.

A key of `summary.json` or of a line of `metrics.jsonl` is `<group>/<name>`, as in `validation/perplexity`, or the name
alone, as in `best_epoch`. `METRICS` declares each name with its groups, so that a search for the name finds it, and
`FIGURES` holds the resulting keys. Tables, console, model card, plots, the quality report and the tracker read them.

To add a metric, produce it and declare it in `METRICS`. To show it in a table, add its key to `TABLES` in
`pipeline.experiments.shown_figures`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from models.sampling import LONG_RUN
from pipeline.experiments.metric_types import (
    AUTOENCODER,
    CONTROLS,
    EVERY_SPLIT,
    REAL_TEXT,
    SPLITS,
    Figure,
    Metric,
    QualityRow,
)
from pipeline.experiments.quality_metrics import NO_MORE, QUALITY_METRICS
from pipeline.experiments.table_metrics import TABLE_METRICS

TAUS = ("0", "0.25", "0.5", "0.75", "1")  # positions between the ends of an interpolation
BETWEEN = tuple(f"interpolation/tau_{tau}" for tau in TAUS)
JUDGED = ("samples", "quality")  # the quality report has a judge of its own
LIKE_REAL = "like held-out text"


def _compared(name: str, label: str, row: QualityRow, unit: str = "", decimals: int = 1) -> Metric:
    """Declare a metric of samples that has controls and a row in the quality report."""
    percent = unit == "share"
    return Metric(name, label, ("samples",), "samples", unit, decimals, percent, controlled=True, quality=row)


METRICS = (
    # The losses of a split, regulariser at full strength (pipeline/training/validation.py).
    Metric("loss", "loss", EVERY_SPLIT, unit="nats a token"),
    Metric("cross_entropy", "{split} cross-entropy ({unit})", EVERY_SPLIT, unit="nats a token"),
    Metric("perplexity", "{split} perplexity", EVERY_SPLIT, decimals=2),
    Metric("end_cross_entropy", "… of the end token ({unit})", EVERY_SPLIT, unit="nats"),
    Metric("other_cross_entropy", "… of the other tokens ({unit})", EVERY_SPLIT, unit="nats a token"),
    # The latent of a split: what it keeps (pipeline/training/validation.py), and whether it collapsed (collapse.py).
    Metric(
        "vectors_kept",
        "vectors kept",
        (*EVERY_SPLIT, "regularisation"),
        unit="vectors a sentence",
        decimals=1,
        console="vectors kept (a sentence)",
    ),
    Metric(
        "vectors_kept_fraction",
        "share of vectors kept",
        EVERY_SPLIT,
        unit="share",
        percent=True,
        table="share kept",
        console="vectors kept ({unit})",
    ),
    Metric("kl_gaussian", "KL_G", EVERY_SPLIT, unit="nats a dimension", console="KL_G ({unit})"),
    Metric("rate", "rate", EVERY_SPLIT, unit="nats a vector", decimals=1, console="rate ({unit})"),
    Metric("rate_per_token", "rate a token", EVERY_SPLIT, unit="nats a token", decimals=1),
    Metric("kl_dirichlet", "KL_D", EVERY_SPLIT, unit="nats a component", decimals=4, console="KL_D ({unit})"),
    Metric(
        "alpha0",
        "alpha0",
        EVERY_SPLIT,
        unit="pseudo-counts a sentence",
        decimals=1,
        console="pseudo-counts alpha0 (a sentence)",
    ),
    Metric("active_units", "active units", ("validation",), unit="dimensions", decimals=0),
    Metric("perplexity_own_latent", "perplexity with the own latent", ("validation",), decimals=2),
    Metric("perplexity_other_latent", "perplexity with another's latent", ("validation",), decimals=2),
    Metric("perplexity_gap", "perplexity gap", ("validation",), decimals=1),
    Metric("perplexity_prior_latent", "perplexity with a draw of the prior", ("validation",), decimals=2),
    Metric("perplexity_all_vectors", "perplexity with the vectors below the threshold", ("validation",), decimals=2),
    # The course of a training (pipeline/training/trainer.py) and of a study (pipeline/recipes/tuning.py).
    Metric("epoch", "epoch", unit="epochs", decimals=0),
    Metric("step", "optimizer steps", unit="steps", decimals=0),
    Metric("learning_rate", "learning rate", decimals=6),
    Metric("price_gaussian", "factor of lambda_G", ("train",)),
    Metric("price_dirichlet", "factor of lambda_D", ("train",)),
    Metric("tokens_per_second", "training speed", unit="tokens a second", decimals=0),
    Metric("seconds", "duration of the epoch's training", unit="seconds", decimals=1),
    Metric("best_epoch", "epoch with the lowest validation loss", unit="epochs", decimals=0),
    Metric("skipped_steps", "optimizer steps left out, not finite", ("train",), unit="steps", decimals=0),
    Metric("objective", "objective of the study", unit="nats a token", decimals=4),
    # Reconstruction (pipeline/evaluation/bleu.py, likelihood.py).
    Metric(
        "reconstruction_bleu",
        "reconstruction BLEU",
        SPLITS,
        decimals=1,
        table="BLEU{of_split}",
        console="{split} reconstruction BLEU",
    ),
    Metric("reconstruction_bleu_signature", "sacrebleu's signature", SPLITS, decimals=None),
    Metric(
        "reconstruction_perplexity",
        "reconstruction perplexity",
        SPLITS,
        decimals=2,
        table="perplexity{of_split}",
        console="{split} reconstruction perplexity",
    ),
    Metric("reconstruction_exact_fraction", "sentences reconstructed exactly", SPLITS, unit="share", percent=True),
    Metric("elbo", "ELBO{of_split} (nats)", SPLITS, unit="nats a sentence", decimals=1),
    Metric("importance_weighted_bound", "IW bound{of_split} (nats)", SPLITS, unit="nats a sentence", decimals=1),
    Metric("importance_samples", "draws of the latent for the bounds", SPLITS, unit="draws a sentence", decimals=0),
    # Interpolation (pipeline/evaluation/bleu.py, judge.py).
    Metric("pairs", "interpolated pairs", ("interpolation",), unit="pairs", decimals=0),
    Metric("rows_fingerprint", "fingerprint of the interpolations", ("interpolation",), decimals=None),
    Metric("bleu_signature", "sacrebleu's signature", ("interpolation",), decimals=None),
    Metric("bleu_source", "BLEU to the source, τ = {tau}", BETWEEN, decimals=1, console="halfway: BLEU to the source"),
    Metric("bleu_target", "BLEU to the target, τ = {tau}", BETWEEN, decimals=1, console="halfway: BLEU to the target"),
    Metric(
        "novel_fraction", "novel, τ = {tau}", BETWEEN, unit="share", percent=True, console="halfway: novel sentences"
    ),
    Metric("novel_forward_perplexity", "F-PPL of the novel, τ = {tau}", BETWEEN, decimals=1, judged=True),
    Metric("novel_forward_perplexity_judge", "judge", ("interpolation",), decimals=None, judged=True),
    Metric("novel_forward_perplexity_weights", "judge's weights", ("interpolation",), decimals=None, judged=True),
    # What the bottleneck keeps (pipeline/evaluation/bottleneck.py).
    Metric(
        "vectors_kept_deviation",
        "standard deviation of the vectors kept",
        ("regularisation",),
        unit="vectors a sentence",
        decimals=1,
    ),
    Metric("subset", "split that was encoded", ("regularisation",), decimals=None),
    Metric("length_correlation", "vectors kept and length (Pearson)", ("regularisation",), decimals=2),
    Metric("unexplained_by_length", "unexplained by length", ("regularisation",), unit="share"),
    Metric("alpha_frequency_correlation", "alpha and frequency (Spearman)", ("regularisation",), decimals=2),
    # Samples: number and lengths (pipeline/cli/sample_command.py).
    Metric("count", "samples", ("samples",), "samples", unit="sentences", decimals=0),
    Metric("rejected", "samples that are no rows of the table", ("samples",), "samples", unit="sentences", decimals=0),
    Metric(
        "mean_length",
        "mean length of samples ({unit})",
        ("samples",),
        "samples",
        unit="tokens",
        decimals=1,
        quality=QualityRow("fidelity", "tokens a sentence, end token counted", LIKE_REAL),
    ),
    Metric("mean_drawn_length", "mean length drawn ({unit})", ("samples",), "samples", unit="tokens", decimals=1),
    # Perplexity of samples, and of real text for a model that learned from them (pipeline/evaluation/judge.py).
    Metric(
        "forward_perplexity",
        "F-PPL of samples",
        ("samples",),
        "samples",
        decimals=1,
        judged=True,
        table="F-PPL",
        controlled=True,
        quality=QualityRow("fidelity", "perplexity under the judge (F-PPL)", LIKE_REAL),
    ),
    Metric("forward_perplexity_judge", "judge", JUDGED, "samples", decimals=None, judged=True),
    Metric("forward_perplexity_weights", "judge's weights", JUDGED, "samples", decimals=None, judged=True),
    Metric("forward_perplexity_subset", "split of real text", JUDGED, "samples", decimals=None, judged=True),
    # The same under a pretrained judge, a word, a character and a token of its own (pipeline/evaluation/base_judge.py).
    _compared(
        "pretrained_word_perplexity",
        "F-PPL a word (pretrained judge)",
        QualityRow("fidelity", "perplexity a word under the pretrained judge", LIKE_REAL),
    ),
    _compared(
        "pretrained_bits_per_character",
        "bits a character (pretrained judge)",
        QualityRow("fidelity", "bits a character under the pretrained judge", LIKE_REAL),
        unit="bits a character",
        decimals=3,
    ),
    _compared(
        "pretrained_forward_perplexity",
        "F-PPL a token (pretrained judge)",
        QualityRow("fidelity", "perplexity a token under the pretrained judge", LIKE_REAL),
    ),
    Metric("pretrained_judge", "pretrained judge", JUDGED, "samples", decimals=None),
    Metric("pretrained_subset", "split of real text", JUDGED, "samples", decimals=None),
    Metric("pretrained_unscored", "samples that it cannot score", ("samples",), "samples", "sentences", 0),
    # Samples and real text in the features of the judge (pipeline/evaluation/mauve.py).
    Metric(
        "mauve",
        "MAUVE",
        ("samples",),
        "samples",
        judged=True,
        controlled=True,
        quality=QualityRow("fidelity", "MAUVE over the model's own features", "higher, up to 1", judged=False),
    ),
    Metric("mauve_deviation", "deviation of MAUVE over seeds of k-means", ("samples",), "samples", judged=True),
    Metric("mauve_count", "sentences of MAUVE", ("samples",), "samples", unit="sentences", decimals=0, judged=True),
    # The same in the vectors of a sentence encoder, where one is installed (pipeline/evaluation/sentence_encoder.py).
    _compared("semantic_mauve", "MAUVE (MiniLM)", QualityRow("fidelity", "MAUVE (MiniLM)", "higher, up to 1"), "", 3),
    Metric("semantic_mauve_deviation", "deviation of MAUVE (MiniLM) over seeds of k-means", ("samples",), "samples"),
    Metric(
        "semantic_mauve_count", "sentences of MAUVE (MiniLM)", ("samples",), "samples", unit="sentences", decimals=0
    ),
    Metric(
        "reverse_perplexity",
        "R-PPL{of_split}",
        SPLITS,
        "samples",
        decimals=1,
        judged=True,
        controlled=True,
        quality=QualityRow("coverage", "perplexity of real text after training on this (R-PPL)", "lower"),
    ),
    Metric("reverse_perplexity_judge", "judge", SPLITS, "samples", decimals=None, judged=True),
    Metric("reverse_perplexity_weights", "judge's weights", SPLITS, "samples", decimals=None, judged=True),
    Metric("reverse_perplexity_steps", "steps of learning", SPLITS, "samples", "steps", 0, judged=True),
    Metric("reverse_perplexity_samples", "fingerprint of the samples", SPLITS, "samples", decimals=None, judged=True),
    Metric(
        "reverse_perplexity_sentences",
        "samples learned from",
        SPLITS,
        "samples",
        unit="sentences",
        decimals=0,
        judged=True,
    ),
    Metric(
        "reverse_perplexity_sentences_of_real_text",
        "real sentences learned from",
        SPLITS,
        "samples",
        unit="sentences",
        decimals=0,
        judged=True,
    ),
    # Variety, novelty and lengths of samples (pipeline/evaluation/diversity.py).
    Metric(
        "distinct_1",
        "distinct-1",
        ("samples",),
        "samples",
        unit="share",
        controlled=True,
        quality=QualityRow("diversity", "different 1-grams over all (distinct-1)", LIKE_REAL),
    ),
    Metric(
        "distinct_2",
        "distinct-2",
        ("samples",),
        "samples",
        unit="share",
        controlled=True,
        quality=QualityRow("diversity", "different 2-grams over all (distinct-2)", LIKE_REAL),
    ),
    Metric(
        "distinct_3",
        "distinct-3",
        ("samples",),
        "samples",
        unit="share",
        controlled=True,
        quality=QualityRow("diversity", "different 3-grams over all (distinct-3)", LIKE_REAL),
    ),
    Metric(
        "self_bleu",
        "self-BLEU",
        ("samples",),
        "samples",
        decimals=1,
        controlled=True,
        quality=QualityRow("diversity", "self-BLEU: how much sentences repeat each other", LIKE_REAL),
    ),
    Metric(
        "exact_training_fraction",
        "exact copies",
        ("samples",),
        "samples",
        unit="share",
        controlled=True,
    ),
    _compared(
        "training_run_fraction",
        f"{LONG_RUN} words of a training text",
        QualityRow("copies", f"{LONG_RUN} words or more in a row of a training text", NO_MORE),
        unit="share",
        decimals=4,
    ),
    # Prior that the latents of samples were drawn from: plain or learned (pipeline/generation/sampler.py).
    Metric("prior", "prior", ("samples",), "samples", decimals=None),
    # By which samples that were edited are recognised (pipeline/experiments/tracker.py).
    Metric("fingerprint", "fingerprint of the samples", ("samples",), "samples", decimals=None),
    # Samples drawn again in place of copies (pipeline/generation/novel_samples.py).
    Metric("redrawn", "samples drawn again", ("samples",), "samples", "sentences", 0),
    Metric("redraw_rounds", "rounds of drawing again", ("samples",), "samples", "rounds", 0),
    Metric("left_copies", "samples that remain copies after it", ("samples",), "samples", "sentences", 0),
    Metric(
        "longest_training_ngram",
        "longest training n-gram",
        ("samples",),
        "samples",
        unit="tokens",
        decimals=1,
        controlled=True,
        quality=QualityRow("copies", "longest n-gram shared with training (tokens)", NO_MORE),
    ),
    Metric(
        "length_divergence",
        "length divergence ({unit})",
        ("samples",),
        "samples",
        unit="bits",
        controlled=True,
        quality=QualityRow("fidelity", "lengths: divergence from training (bits)", "lower"),
    ),
    # How much of a sample its latent decides (pipeline/evaluation/latent_influence.py).
    Metric("same_draw_bleu", "BLEU of the same draw", ("samples",), "samples", decimals=2),
    Metric("different_draws_bleu", "BLEU of different draws", ("samples",), "samples", decimals=2),
    *QUALITY_METRICS,
    *TABLE_METRICS,
)


def _figures() -> Iterator[Figure]:
    """Every key of every metric."""
    for metric in METRICS:
        for name in (metric.name, AUTOENCODER + metric.name) if metric.judged else (metric.name,):
            for group in metric.groups or (() if metric.quality else ("",)):
                yield Figure(metric, group, name)
                if metric.controlled:
                    yield from (Figure(metric, group, name + suffix) for suffix in CONTROLS)
            if metric.quality is not None and (name == metric.name or metric.quality.judged):
                yield Figure(metric, "quality", name)
                yield Figure(metric, "quality", name + REAL_TEXT)


FIGURES = {figure.key: figure for figure in _figures()}


def under_reading(figures: Mapping[str, Any], reading: str | None) -> dict[str, Any]:
    """Return figures by key, with the reading before the last part of each key, as in
    `validation/reading_plug-in/perplexity`. `FIGURES` declares them without it.

    Args:
        figures: figures by key.
        reading: reading that replaces the experiment's own (`models.readings`); None changes no key.
    """
    if reading is None:
        return dict(figures)
    parts = ((key.rpartition("/"), value) for key, value in figures.items())
    return {f"{group}/reading_{reading}/{name}": value for (group, _, name), value in parts}


def outdated_with_samples(key: str) -> bool:
    """True if a figure is outdated once the samples change.

    A key that no metric declares, such as one of an earlier version, is judged by the declared figures of its group.
    """
    if key in FIGURES:
        return FIGURES[key].metric.of == "samples"
    group = key.partition("/")[0]
    return {figure.metric.of for figure in FIGURES.values() if figure.group == group} == {"samples"}
