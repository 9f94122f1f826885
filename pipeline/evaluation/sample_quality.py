"""Is synthetic text good, and is it safe: every figure of it beside the same figure of held-out real text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.bootstrap import area_estimate, area_under_curve
from pipeline.evaluation.copies import copy_figures, nearest, worst_cases
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import figure_name, fingerprint, perplexity, tokenized_samples
from pipeline.evaluation.mauve import LEAST, mauve, sentence_features
from pipeline.evaluation.membership import losses, members_and_others
from pipeline.evaluation.ngrams import Sentences, covered, divergence
from pipeline.evaluation.quality_rows import Quality, Row
from pipeline.evaluation.usefulness import labelled_samples, labelled_split, majority, usefulness
from pipeline.experiments.load import Experiment
from pipeline.runtime.files import read_record

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.data.dataset import PreparedData

SHOWN = 10  # worst cases of the samples
SHOWN_REAL = 5
LIKE_REAL = "like held-out text"
NO_MORE = "no more than held-out text"


@dataclass(frozen=True)
class Material:
    """What is compared.

    Args:
        experiment: whose samples they are.
        rows: of its `samples.jsonl`.
        subset: the held-out split that stands beside them.
        judge: the language model, or None.
        near: edits over tokens up to which a sentence is a near copy.
        drop: those up to which it is dropped, or None.
        batch_size: sentences that go through a model together.
    """

    experiment: Experiment
    rows: list[dict[str, Any]]
    subset: str
    judge: Experiment | None
    near: float
    drop: float | None
    batch_size: int

    @cached_property
    def samples(self) -> "Dataset":
        """All samples' ids."""
        return tokenized_samples(self.rows, self.experiment.data)

    @cached_property
    def train(self) -> "Dataset":
        """The training split."""
        return self.experiment.data.splits["train"]

    @property
    def count(self) -> int:
        """How many sentences of either text are compared: as many as there are of both."""
        return min(len(self.rows), len(self.experiment.data.splits[self.subset]))

    @cached_property
    def texts(self) -> "dict[str, Dataset]":
        """`count` of the samples and of the held-out split, at random; as many of the training split or all of it."""
        splits = {"synthetic": self.samples, "real": self.experiment.data.splits[self.subset], "train": self.train}
        return {name: _some(split, self.count) for name, split in splits.items()}


def measure(material: Material) -> Quality:
    """All figures of an experiment's samples.

    Raises:
        UserError: their labels are not those of the data.
    """
    quality = Quality()
    own, real = (text_figures(material.texts[kind], material.experiment.data) for kind in ("synthetic", "real"))
    quality.lengths = {name: np.array(split["length"]) for name, split in material.texts.items()}
    quality.rows += [
        *_fidelity(material, quality, own, real),
        *coverage(material),
        *_diversity(own, real),
        *_copies(material, quality, own, real),
        *_membership(material, quality),
        *_usefulness(material, quality),
    ]
    return quality


def _fidelity(material: Material, quality: Quality, own: dict, real: dict) -> Iterator[Row]:
    judge, data = material.judge, material.experiment.data
    name, values, missing = "forward_perplexity", [None, None], "train a judge with train.py --MODEL LM, name it here "
    missing += "with --LANGUAGE_MODEL"
    if judge is not None:
        name, missing = figure_name(judge, name), ""
        values = [
            perplexity(judge.model, material.texts[kind], judge.data, material.batch_size, f"judge {kind}")
            for kind in ("synthetic", "real")
        ]
    yield Row("fidelity", name, "perplexity under the judge (F-PPL)", LIKE_REAL, ".1f", *values, missing)
    lengths = (float(quality.lengths[kind].mean()) for kind in ("synthetic", "real"))
    yield Row("fidelity", "mean_length", "tokens a sentence, end token counted", LIKE_REAL, ".1f", *lengths)
    name = "length_divergence"
    yield Row("fidelity", name, "lengths: divergence from training (bits)", "lower", ".3f", own[name], real[name])
    train, labels = Sentences.of(material.train, data.tokenizer.label_ids), data.tokenizer.label_ids
    for n, of in ((1, "vocabulary"), (2, "bigram"), (3, "trigram")):
        known, size = train.grams(n, data.tokenizer.vocabulary_size)[0], data.tokenizer.vocabulary_size
        texts = (Sentences.of(material.texts[kind], labels) for kind in ("synthetic", "real"))
        values = (divergence(text.grams(n, size)[0], known) for text in texts)
        label = {"vocabulary": "words"}.get(of, f"{of}s") + ": divergence from training (bits)"
        yield Row("fidelity", f"{of}_divergence", label, "lower", ".3f", *values)
    model, size = material.experiment.model, material.batch_size
    features = {
        kind: sentence_features(model, split, data.tokenizer.pad_id, size, f"features {kind}")
        for kind, split in material.texts.items()
    }
    values = [mauve(features["train"], features[kind]) for kind in ("synthetic", "real")]
    missing = f"needs at least {LEAST} sentences of each text" if values[0] is None else ""
    yield Row("fidelity", "mauve", "MAUVE over the model's own features", "higher, up to 1", ".3f", *values, missing)


def coverage(material: Material) -> Iterator[Row]:
    """How much of the real text the samples have; R-PPL where `reverseSampleEvaluation.py` measured it of them."""
    judge, subset, files = material.judge, material.subset, material.experiment.files
    name, values = "reverse_perplexity", (None, None)
    missing = f"measure it with reverseSampleEvaluation.py --EXPERIMENT_NAME {files.folder.name} --LANGUAGE_MODEL "
    missing += (
        f"{'…' if judge is None else judge.files.folder.name} --DATA_SUBSET {subset}, then run this again with it"
    )
    if judge is not None and files.summary.exists():
        name = figure_name(judge, name)
        summary, key = read_record(files.summary, "run the step that wrote it again"), f"{subset}/{name}"
        # Of other samples, or by another judge, it would not be that of these.
        of_these = summary.get(f"{key}_samples") == fingerprint([row["text"] for row in material.rows])
        if of_these and summary.get(f"{key}_judge") == judge.files.folder.name:
            values, missing = (summary[key], summary[f"{key}_of_real_text"]), ""
    label = "perplexity of real text after training on this (R-PPL)"
    yield Row("coverage", name, label, "lower", ".1f", *values, missing)
    tokenizer = material.experiment.data.tokenizer
    train, size, labels = (
        Sentences.of(material.train, tokenizer.label_ids),
        tokenizer.vocabulary_size,
        tokenizer.label_ids,
    )
    for n, of, label in ((1, "vocabulary", "words"), (2, "bigram", "bigrams")):
        known = train.grams(n, size)[0]
        texts = (Sentences.of(material.texts[kind], labels) for kind in ("synthetic", "real"))
        values = (covered(text.grams(n, size)[0], known) for text in texts)
        yield Row("coverage", f"{of}_coverage", f"training text's {label} that it has", "higher", ".1%", *values)


def _diversity(own: dict, real: dict) -> Iterator[Row]:
    for n in (1, 2, 3):
        name = f"distinct_{n}"
        label = f"different {n}-grams over all (distinct-{n})"
        yield Row("diversity", name, label, LIKE_REAL, ".3f", own[name], real[name])
    label = "self-BLEU: how much sentences repeat each other"
    yield Row("diversity", "self_bleu", label, LIKE_REAL, ".1f", own["self_bleu"], real["self_bleu"])


def _copies(material: Material, quality: Quality, own: dict, real: dict) -> Iterator[Row]:
    data, near = material.experiment.data, material.near
    size, training_text = data.tokenizer.vocabulary_size, _Decoded(material.train, data)
    held_out = material.texts["real"]
    for kind, split in (("synthetic", material.samples), ("real", held_out)):
        furthest = max(near, material.drop or 0.0)
        quality.found[kind] = nearest(split, material.train, size, furthest, data.tokenizer.label_ids)
    quality.worst = {
        "synthetic": worst_cases(quality.found["synthetic"], [r["text"] for r in material.rows], training_text, SHOWN),
        "real": worst_cases(quality.found["real"], _Decoded(held_out, data), training_text, SHOWN_REAL),
    }
    figures = [copy_figures(quality.found[kind], near) for kind in ("synthetic", "real")]
    for name, label, better, form in (
        ("exact_copies", "exact copies of training sentences", NO_MORE, ".2%"),
        ("near_copies_by_edits", f"at most {near:.0%} of the tokens edited", NO_MORE, ".2%"),
        ("near_copies_by_overlap", f"{1 - near:.0%} of its 3-grams in one training sentence", NO_MORE, ".2%"),
        ("near_copies", "near copies in either sense, exact ones too", NO_MORE, ".2%"),
        ("nearest_distance", "edit distance to the nearest training sentence", "no less than held-out text", ".3f"),
        ("nearest_overlap", "3-grams shared with the nearest", NO_MORE, ".3f"),
    ):
        yield Row("copies", name, label, better, form, *(values[name] for values in figures))
    name = "longest_training_ngram"
    label = "longest n-gram shared with training (tokens)"
    yield Row("copies", name, label, NO_MORE, ".1f", own[name], real[name])
    distances = [-quality.found[kind].distance for kind in ("synthetic", "real")]
    label = "chance to lie nearer to training than held-out text"
    values = area_estimate(*distances), area_under_curve(distances[1], distances[1])
    yield Row("copies", "nearer_than_held_out", label, "0.5 or below", ".3f", *values)


def _membership(material: Material, quality: Quality) -> Iterator[Row]:
    experiment, judge = material.experiment, material.judge
    pad_id = experiment.data.tokenizer.pad_id
    kinds = members_and_others(experiment.data, material.subset)
    own = {kind: losses(experiment.model, split, pad_id, f"loss of {kind}") for kind, split in kinds.items()}
    attacks = {
        "reconstruction": ("membership_auc", "attack by the model's cross-entropy (AUC)", "0.5"),
        "objective": ("membership_auc_objective", "… by the training objective, regulariser included", "0.5"),
    }
    scores = {kind: dict(values) for kind, values in own.items()}
    if all(np.array_equal(values["reconstruction"], values["objective"]) for values in own.values()):
        del attacks["objective"]  # a model without a regulariser
    if judge is not None:
        for kind, split in kinds.items():
            others = losses(judge.model, split, pad_id, f"judge's loss of {kind}")["reconstruction"]
            scores[kind]["calibrated"] = own[kind]["reconstruction"] - others
        # The judge learned from the members too, and may know them better than the model does.
        attacks["calibrated"] = ("membership_auc_calibrated", "… by cross-entropy less the judge's", "0.5 or below")
    quality.losses = {kind: values["reconstruction"] for kind, values in own.items()}
    for attack, (name, label, better) in attacks.items():
        values = [
            area_estimate(-scores[kind][attack], -scores["others"][attack])
            if kind in scores and "others" in scores
            else None
            for kind in ("members", "again")
        ]
        missing = "" if None not in values else "no held-out sentences that do not stand in the training split too"
        yield Row("membership", name, label, better, ".3f", *values, missing)


def _usefulness(material: Material, quality: Quality) -> Iterator[Row]:
    data = material.experiment.data
    test_split = data.splits[material.subset]
    train, test = (labelled_split(split, data.tokenizer.decode_batch) for split in (material.train, test_split))
    samples = None if train is None else labelled_samples(material.rows, train)
    if train is None or test is None or samples is None:
        quality.notes["usefulness"] = (
            "Not measured: it needs labels, in the prepared data and of the samples, for a classifier to learn."
        )
        return
    count = min(len(samples), len(train))
    texts = samples.some(count), train.some(count)
    trained, guessed = ([function(text, test) for text in texts] for function in (usefulness, majority))
    quality.notes["usefulness"] = (
        f"TF-IDF of words and pairs of words with logistic regression, trained on {count:,} labelled sentences of "
        f"either text and tested on {len(test):,} real ones ({material.subset}). Here the real text that stands beside "
        "the samples is training text. The most common label is what a classifier that knows nothing would answer."
    )
    for name, label in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
        values = (getattr(result, name) for result in trained)
        yield Row("usefulness", f"classifier_{name}", f"{label} after training on this", "higher", ".3f", *values)
        values = (getattr(result, name) for result in guessed)
        label = f"{label} of its most common label"
        yield Row("usefulness", f"majority_{name}", label, "a floor", ".3f", *values)


class _Decoded:
    """The sentences of a split as the tokenizer reads them back, each when it is asked for."""

    def __init__(self, split: "Dataset", data: "PreparedData") -> None:
        self.split, self.tokenizer = split, data.tokenizer

    def __getitem__(self, number: int) -> str:
        return self.tokenizer.decode(self.split[number]["input_ids"])


def without_copies(material: Material, quality: Quality) -> list[dict[str, Any]]:
    """The samples that are no copies, exact or within `material.drop`, as `samples.jsonl` has them."""
    copied = quality.found["synthetic"].copies(material.drop)
    return [row for row, copy in zip(material.rows, copied, strict=True) if not copy]


def kept_files(samples: Path) -> tuple[Path, Path]:
    """Where samples without copies are written: beside the original, which stays."""
    return samples.with_name("samples_without_copies.jsonl"), samples.with_name("samples_without_copies.txt")


def _some(split: "Dataset", count: int, seed: int = 0) -> "Dataset":
    return split.select(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))
