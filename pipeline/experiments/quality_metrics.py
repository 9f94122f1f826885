"""Declarations of the figures of samples that the quality report alone has."""

from pipeline.experiments.metric_types import Metric, QualityRow

NO_MORE = "no more than held-out text"


def _quality(
    name: str, section: str, label: str, better: str, unit: str = "", decimals: int = 3, percent: bool = False
) -> Metric:
    """Declare a metric that the quality report alone has."""
    row = QualityRow(section, label, better)
    unit = "share" if percent else unit
    return Metric(name, of="samples", unit=unit, decimals=decimals, percent=percent, quality=row)


QUALITY_METRICS = (
    # Fidelity and coverage (pipeline/evaluation/ngrams.py, mauve.py).
    _quality("vocabulary_divergence", "fidelity", "words: divergence from training (bits)", "lower", unit="bits"),
    _quality("bigram_divergence", "fidelity", "bigrams: divergence from training (bits)", "lower", unit="bits"),
    _quality("trigram_divergence", "fidelity", "trigrams: divergence from training (bits)", "lower", unit="bits"),
    _quality("vocabulary_coverage", "coverage", "training text's words that it has", "higher", percent=True),
    _quality("bigram_coverage", "coverage", "training text's bigrams that it has", "higher", percent=True),
    # Copies of training sentences (pipeline/evaluation/copies.py).
    _quality("exact_copies", "copies", "exact copies of training sentences", NO_MORE, decimals=4, percent=True),
    _quality(
        "near_copies_by_edits", "copies", "at most {near:.0%} of the tokens edited", NO_MORE, decimals=4, percent=True
    ),
    _quality(
        "near_copies_by_overlap",
        "copies",
        "{rest:.0%} of its 3-grams in one training sentence",
        NO_MORE,
        decimals=4,
        percent=True,
    ),
    _quality("near_copies", "copies", "near copies in either sense, exact ones too", NO_MORE, decimals=4, percent=True),
    _quality(
        "nearest_distance",
        "copies",
        "edit distance to the nearest training sentence",
        "no less than held-out text",
        unit="share",
    ),
    _quality("nearest_overlap", "copies", "3-grams shared with the nearest", NO_MORE, unit="share"),
    _quality("nearer_than_held_out", "copies", "chance to lie nearer to training than held-out text", "0.5 or below"),
    # Nearness in meaning, where a sentence encoder is installed (pipeline/evaluation/meaning.py).
    _quality(
        "semantic_copies",
        "copies",
        "cosine similarity of {similar} or more to a training text (MiniLM)",
        NO_MORE,
        decimals=4,
        percent=True,
    ),
    _quality("semantic_similarity", "copies", "cosine similarity to the nearest training text (MiniLM)", NO_MORE),
    # Membership inference and usefulness (pipeline/evaluation/membership.py, usefulness.py).
    _quality("membership_auc", "membership", "attack by the model's cross-entropy (AUC)", "0.5"),
    _quality("membership_auc_objective", "membership", "… by the training objective, regulariser included", "0.5"),
    _quality("membership_auc_calibrated", "membership", "… by cross-entropy less the judge's", "0.5 or below"),
    _quality("classifier_accuracy", "usefulness", "accuracy after training on this", "higher", unit="share"),
    _quality("majority_accuracy", "usefulness", "accuracy of its most common label", "a floor", unit="share"),
    _quality("classifier_macro_f1", "usefulness", "macro F1 after training on this", "higher", unit="share"),
    _quality("majority_macro_f1", "usefulness", "macro F1 of its most common label", "a floor", unit="share"),
)
