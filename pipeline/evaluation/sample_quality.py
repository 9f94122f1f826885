"""Quality of samples: each figure beside the same figure of held-out real text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset

from pipeline.data.dataset import PreparedData
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.evaluation.base_judge import FIGURE_NAMES, BaseJudge
from pipeline.evaluation.bootstrap import area_estimate, area_under_curve
from pipeline.evaluation.copies import copy_figures, nearest, worst_cases
from pipeline.evaluation.diversity import text_figures
from pipeline.evaluation.judge import as_split, figure_name, judged_by, perplexity, tokenized_samples
from pipeline.evaluation.mauve import LEAST, SEMANTIC, mauve, semantic_mauve_figures, sentence_features
from pipeline.evaluation.meaning import MOST, SIMILAR, closest_cases, meaning_figures, nearest_in_meaning
from pipeline.evaluation.membership import losses, members_and_others
from pipeline.evaluation.ngrams import Sentences, covered, divergence
from pipeline.evaluation.quality_rows import Quality, Row
from pipeline.evaluation.sentence_encoder import ABSENT, SentenceEncoder
from pipeline.evaluation.table_comparison import table_comparison
from pipeline.evaluation.table_frames import CATEGORY
from pipeline.evaluation.usefulness import labelled_samples, labelled_split, majority, usefulness
from pipeline.experiments.load import Experiment
from pipeline.experiments.metric_types import REAL_TEXT
from pipeline.experiments.table_metrics import SECTION as TABLE
from pipeline.experiments.table_metrics import TABLE_METRICS
from pipeline.experiments.tracker import fingerprint
from pipeline.generation.known_texts import KnownTexts
from pipeline.generation.new_identifiers import columns_beside_copies
from pipeline.runtime.files import read_record

SHOWN = 10  # worst cases of the samples
SHOWN_REAL = 5  # worst cases of the held-out text
COMPARED = ("synthetic", "real")


@dataclass(frozen=True)
class Material:
    """Texts and settings of a comparison.

    Args:
        experiment: experiment that generated the samples.
        rows: its `samples.jsonl`.
        subset: held-out split that the samples are compared with.
        judge: language model that scores both texts; a pretrained one scores their fluency alone. None for no judge.
        near: largest share of its tokens that may be edited in a near copy, in [0, 0.5].
        drop: the same of the copies to drop, or None to drop none.
        batch_size: sentences that go through a model together.
        encoder: sentence encoder that compares texts in meaning, or None.
        target: column of a table that trees predict, as `check_target` accepts it; None to choose one.
    """

    experiment: Experiment
    rows: list[dict[str, Any]]
    subset: str
    judge: Experiment | BaseJudge | None
    near: float
    drop: float | None
    batch_size: int
    encoder: SentenceEncoder | None = None
    target: str | None = None

    @property
    def trained_judge(self) -> Experiment | None:
        """Judge that an experiment trained, or None: only it knows the tokens of the data."""
        return self.judge if isinstance(self.judge, Experiment) else None

    @cached_property
    def samples(self) -> Dataset:
        """Token ids of all samples."""
        return tokenized_samples(self.rows, self.experiment.data)

    @cached_property
    def train(self) -> Dataset:
        """Training split."""
        return self.experiment.data.splits["train"]

    @property
    def count(self) -> int:
        """Number of sentences of each text that are compared: as many as both have."""
        return min(len(self.rows), len(self.experiment.data.splits[self.subset]))

    @cached_property
    def texts(self) -> dict[str, Dataset]:
        """Random sentences of the samples, of the held-out split and of the training split, at most `count` of each."""
        splits = {"synthetic": self.samples, "real": self.experiment.data.splits[self.subset], "train": self.train}
        return {name: _some(split, self.count) for name, split in splits.items()}


def measure(material: Material) -> Quality:
    """Measure all figures of an experiment's samples.

    Raises:
        UserError: the labels of the samples are not those of the data.
    """
    quality = Quality()
    known = KnownTexts.of(material.experiment.data)
    own, real = (text_figures(material.texts[kind], material.experiment.data, known) for kind in COMPARED)
    quality.lengths = {name: np.array(split["length"]) for name, split in material.texts.items()}
    quality.rows += [
        *_table(material, quality),
        *_fidelity(material, quality, own, real),
        *coverage(material),
        *_diversity(own, real),
        *_copies(material, quality, own, real),
        *_meaning(material, quality),
        *_membership(material, quality),
        *_usefulness(material, quality),
    ]
    return quality


def _table(material: Material, quality: Quality) -> Iterator[Row]:
    """Compare the rows of a table with real ones, column by column."""
    quality.table = table_comparison(material.experiment.data, (row["text"] for row in material.rows), material.target)
    if quality.table is None:
        return
    quality.notes[TABLE] = quality.table.note()
    fidelity, types = quality.table.fidelity, quality.table.types
    for metric in TABLE_METRICS:
        own, real = fidelity.figures.get(metric.name), fidelity.held_out.get(metric.name)
        missing = "needs more rows, or other columns"
        if metric.name == "table_f1" and fidelity.target is not None and types.kinds[fidelity.target] != CATEGORY:
            missing = f"is for classes, and the trees predict the numbers of {fidelity.target!r}"
        yield Row(metric.name, own, real, missing="" if own is not None else missing)


def _fidelity(
    material: Material, quality: Quality, own: Mapping[str, float], real: Mapping[str, float]
) -> Iterator[Row]:
    """Compare perplexity, lengths, n-grams and features of the texts."""
    judge, data = material.judge, material.experiment.data
    if judge is None:
        missing = "train a judge with train.py --MODEL LM, name it here with --LANGUAGE_MODEL"
        yield Row("forward_perplexity", None, None, missing=missing)
    elif isinstance(judge, BaseJudge):
        decode = data.tokenizer.decode_batch
        scores = [
            judge.score(decode(material.texts[kind]["input_ids"]), material.batch_size, f"judge {kind}")
            for kind in COMPARED
        ]
        for name in FIGURE_NAMES:
            yield Row(name, *(score.figures()[name] for score in scores))
        found = {kind: score.left_out() for kind, score in zip(COMPARED, scores, strict=True)}
        if left := [f"of the {kind} texts {said}" for kind, said in found.items() if said]:
            quality.notes["fidelity"] = f"Not scored by the pretrained judge: {', '.join(left)}."
    else:
        values = [
            perplexity(judge.model, material.texts[kind], judge.data, material.batch_size, f"judge {kind}")
            for kind in COMPARED
        ]
        yield Row(figure_name(judge, "forward_perplexity"), *values)
    yield Row("mean_length", *(float(quality.lengths[kind].mean()) for kind in COMPARED))
    yield Row("length_divergence", own["length_divergence"], real["length_divergence"])
    size, labels = data.tokenizer.vocabulary_size, data.tokenizer.label_ids
    train = Sentences.of(material.train, labels)
    for n, name in ((1, "vocabulary_divergence"), (2, "bigram_divergence"), (3, "trigram_divergence")):
        known, _ = train.grams(n, size)
        texts = (Sentences.of(material.texts[kind], labels) for kind in COMPARED)
        yield Row(name, *(divergence(text.grams(n, size)[0], known) for text in texts))
    features = {
        kind: sentence_features(
            material.experiment.model, split, data.tokenizer.pad_id, material.batch_size, f"features {kind}"
        )
        for kind, split in material.texts.items()
    }
    found = [mauve(features["train"], features[kind]) for kind in COMPARED]
    missing = f"needs at least {LEAST} sentences of each text" if found[0] is None else ""
    yield Row("mauve", *(value and value.mean for value in found), missing=missing)


def coverage(material: Material) -> Iterator[Row]:
    """Measure how much of the real text the samples cover.

    The reverse perplexity comes from `summary.json`, if `reverseSampleEvaluation.py` measured it on these samples with
    this judge.
    """
    yield _reverse_perplexity(material)
    tokenizer = material.experiment.data.tokenizer
    size, labels = tokenizer.vocabulary_size, tokenizer.label_ids
    train = Sentences.of(material.train, labels)
    for n, name in ((1, "vocabulary_coverage"), (2, "bigram_coverage")):
        known, _ = train.grams(n, size)
        texts = (Sentences.of(material.texts[kind], labels) for kind in COMPARED)
        yield Row(name, *(covered(text.grams(n, size)[0], known) for text in texts))


def _reverse_perplexity(material: Material) -> Row:
    """Take the reverse perplexity from `summary.json`, or say how to measure it."""
    judge, subset, files = material.trained_judge, material.subset, material.experiment.files
    name = "reverse_perplexity"
    if judge is not None and files.summary.exists():
        name = figure_name(judge, name)
        summary, key = read_record(files.summary, "run the step that wrote it again"), f"{subset}/{name}"
        # The figure must be of these samples and of this judge, whose weights an earlier version did not record.
        of_these = summary.get(f"{key}_samples") == fingerprint([row["text"] for row in material.rows])
        by = judged_by(judge, key)
        if of_these and by.items() <= {f"{key}_weights": by[f"{key}_weights"], **summary}.items():
            return Row(name, summary[key], summary[key + REAL_TEXT])
    missing = (
        f"measure it with reverseSampleEvaluation.py --EXPERIMENT_NAME {files.folder.name} --LANGUAGE_MODEL "
        f"{'…' if judge is None else judge.files.folder.name} --DATA_SUBSET {subset}, then run this again with it"
    )
    return Row(name, None, None, missing=missing)


def _diversity(own: Mapping[str, float], real: Mapping[str, float]) -> Iterator[Row]:
    """Compare how varied the texts are."""
    for name in ("distinct_1", "distinct_2", "distinct_3", "self_bleu"):
        yield Row(name, own[name], real[name])


def _copies(material: Material, quality: Quality, own: Mapping[str, float], real: Mapping[str, float]) -> Iterator[Row]:
    """Compare how near the texts are to training sentences."""
    data, near = material.experiment.data, material.near
    size, training_text = data.tokenizer.vocabulary_size, _Decoded(material.train, data)
    held_out = material.texts["real"]
    train = _without_identifiers(material.train, data)
    for kind, split in (("synthetic", material.samples), ("real", held_out)):
        furthest = max(near, material.drop or 0.0)
        own_split = _without_identifiers(split, data)
        quality.found[kind] = nearest(own_split, train, size, furthest, data.tokenizer.label_ids)
    sample_texts = [row["text"] for row in material.rows]
    quality.worst = {
        "synthetic": worst_cases(quality.found["synthetic"], sample_texts, training_text, SHOWN),
        "real": worst_cases(quality.found["real"], _Decoded(held_out, data), training_text, SHOWN_REAL),
    }
    own_copies, real_copies = (copy_figures(quality.found[kind], near) for kind in COMPARED)
    for name, value in own_copies.items():
        yield Row(name, value, real_copies[name], near=near)
    for name in ("training_run_fraction", "longest_training_ngram"):
        yield Row(name, own[name], real[name])
    near_own, near_real = (-quality.found[kind].distance for kind in COMPARED)
    yield Row("nearer_than_held_out", area_estimate(near_own, near_real), area_under_curve(near_real, near_real))


def _without_identifiers(split: Dataset, data: PreparedData) -> Dataset:
    """Leave the columns of a table out whose values are made: no sample has those of a training row."""
    columns, tokenizer = columns_beside_copies(data), data.tokenizer
    if not columns or not isinstance(tokenizer, RowTokenizer):
        return split
    return as_split([tokenizer.without(ids, columns) for ids in split["input_ids"]])


def _meaning(material: Material, quality: Quality) -> Iterator[Row]:
    """Compare how near the texts are to training texts in meaning, after `_copies`, or note what is missing."""
    encoder, data = material.encoder, material.experiment.data
    if encoder is None:
        quality.notes["copies"] = f"Nearness in meaning is not measured: {ABSENT}."
        return
    splits = _some(material.train, MOST), material.texts["real"]
    training_text, held_out = (data.tokenizer.decode_batch(split["input_ids"]) for split in splits)
    texts = {"synthetic": [row["text"] for row in material.rows], "real": held_out}
    size = material.batch_size
    train = encoder.encode(training_text, size, "MiniLM training text")
    found = {kind: nearest_in_meaning(encoder.encode(texts[kind], size, f"MiniLM {kind}"), train) for kind in COMPARED}
    figures = semantic_mauve_figures(encoder, data, material.samples, size)
    missing = f"needs at least {LEAST} sentences of each text" if figures[SEMANTIC] is None else ""
    yield Row("semantic_mauve", figures[SEMANTIC], figures[SEMANTIC + REAL_TEXT], missing=missing)
    for kind, shown in (("synthetic", SHOWN), ("real", SHOWN_REAL)):
        in_wording = quality.found[kind].copies(material.near)
        quality.closest[kind] = closest_cases(found[kind], texts[kind], training_text, in_wording, shown)
    compared = "" if figures[SEMANTIC] is None else f", of {figures[f'{SEMANTIC}_count']:,} samples,"
    quality.notes["copies"] = (
        f"Nearness in meaning is the cosine similarity of all samples, by MiniLM's vectors, to the nearest of "
        f"{len(training_text):,} training texts. Texts from {SIMILAR} on mostly say the same, and short ones are often "
        f"alike by chance. MAUVE (MiniLM){compared} has as many training texts, other ones, in the place of held-out "
        "text, which may be few."
    )
    own, real = (meaning_figures(found[kind]) for kind in COMPARED)
    for name, value in own.items():
        yield Row(name, value, real[name], similar=SIMILAR)


def _membership(material: Material, quality: Quality) -> Iterator[Row]:
    """Attack the model: tell training sentences from held-out ones by their loss."""
    experiment, judge = material.experiment, material.trained_judge
    pad_id = experiment.data.tokenizer.pad_id
    kinds = members_and_others(experiment.data, material.subset)
    own = {kind: losses(experiment.model, split, pad_id, f"loss of {kind}") for kind, split in kinds.items()}
    attacks = {"reconstruction": "membership_auc", "objective": "membership_auc_objective"}
    scores = {kind: dict(values) for kind, values in own.items()}
    if all(np.array_equal(values["reconstruction"], values["objective"]) for values in own.values()):
        del attacks["objective"]  # a model without a regulariser
    if judge is not None:
        for kind, split in kinds.items():
            others = losses(judge.model, split, pad_id, f"judge's loss of {kind}")["reconstruction"]
            scores[kind]["calibrated"] = own[kind]["reconstruction"] - others
        # 0.5 or below is good: the judge learned from the members too, and may know them better than the model does.
        attacks["calibrated"] = "membership_auc_calibrated"
    quality.losses = {kind: values["reconstruction"] for kind, values in own.items()}
    numbers = [f"{len(kinds[kind]) if kind in kinds else 0:,}" for kind in ("members", "others")]
    quality.notes["membership"] = f"The attack is on {numbers[0]} training sentences and {numbers[1]} held-out ones."
    for attack, name in attacks.items():
        values = [
            area_estimate(-scores[kind][attack], -scores["others"][attack])
            if kind in scores and "others" in scores
            else None
            for kind in ("members", "again")
        ]
        missing = "" if None not in values else "every held-out sentence is in the training split too"
        yield Row(name, *values, missing=missing)


def _usefulness(material: Material, quality: Quality) -> Iterator[Row]:
    """Compare classifiers trained on the samples and on training text, and note how they are trained."""
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
        f"either text and tested on {len(test):,} real ones ({material.subset}). Here the real text beside "
        "the samples is training text. The most common label is what a classifier that knows nothing would answer."
    )
    yield Row("classifier_accuracy", *(result.accuracy for result in trained))
    yield Row("majority_accuracy", *(result.accuracy for result in guessed))
    yield Row("classifier_macro_f1", *(result.macro_f1 for result in trained))
    yield Row("majority_macro_f1", *(result.macro_f1 for result in guessed))


class _Decoded(Sequence[str]):
    """Sentences of a split as text, each decoded when it is read."""

    def __init__(self, split: Dataset, data: PreparedData) -> None:
        self.split, self.tokenizer = split, data.tokenizer

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, number: Any) -> Any:
        return self.tokenizer.decode(self.split[number]["input_ids"])


def about_judge(material: Material) -> dict[str, str]:
    """Name the judge of the figures by keys in `summary.json`, with its weights and the split; empty without one."""
    judge, subset = material.judge, material.subset
    if isinstance(judge, BaseJudge):
        return {"quality/pretrained_judge": judge.name, "quality/pretrained_subset": subset}
    if judge is None:
        return {}
    key = f"quality/{figure_name(judge, 'forward_perplexity')}"
    return {**judged_by(judge, key), f"{key}_subset": subset}


def without_copies(material: Material, quality: Quality) -> list[dict[str, Any]]:
    """Return the samples that are no copies within `material.drop`, as rows of `samples.jsonl`."""
    assert material.drop is not None, "no threshold of copies to drop is set"
    copied = quality.found["synthetic"].copies(material.drop)
    return [row for row, copy in zip(material.rows, copied, strict=True) if not copy]


def _some(split: Dataset, count: int, seed: int = 0) -> Dataset:
    """Select at most `count` random sentences, in order."""
    return split.select(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))
