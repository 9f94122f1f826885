"""MAUVE (Pillutla et al. 2021), computed from the paper, over features of a judge or of a sentence encoder.

Measured on 2026-11-28 against the package mauve-text 0.4.0, which was called and not read: the same histograms give the
same value up to 1e-15 (3 pairs). On 10 pairs of sets of normal features (1,000 sentences in 50 clusters and 2,000 in
100, MAUVE from 0.10 to 0.99), the means over 5 seeds of k-means differ by at most 0.012. The package's values have
standard deviations over its seeds of up to 0.014. On 5,000 sentences in 250 clusters, MAUVE is 0.956 here, 0.957 there.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from scipy.integrate import trapezoid
from threadpoolctl import threadpool_limits

from models.autoencoder import TextAutoencoder
from models.packing import Packing
from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.data.dataset import PreparedData
from pipeline.evaluation.controls import unigram_sentences, unigrams_are_texts
from pipeline.evaluation.sentence_encoder import SentenceEncoder
from pipeline.experiments.load import Experiment
from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
from pipeline.runtime.progress import bar

A_CLUSTER = 20  # sentences of a text for each cluster; k-means cannot place its centres with fewer
LEAST = 2 * A_CLUSTER  # sentences of a text that MAUVE needs
MOST = 5000  # sentences of a text that are compared with real ones, as in the paper
SCALE = 5.0  # scaling factor c of the divergences, as in the paper
POINTS = 25  # mixtures on the divergence frontier, as in the paper
VARIANCE = 0.9  # share of the features' variance that their principal components keep, as in the paper
SEEDS = 5  # runs of k-means
SEMANTIC = "samples/semantic_mauve"  # key of MAUVE over the vectors of a sentence encoder


class Mauve(NamedTuple):
    """MAUVE over several runs of k-means.

    Args:
        mean: mean of the runs, in (0, 1]; 1 for texts that are alike.
        deviation: standard deviation of the runs, which differ in the seed of k-means alone.
    """

    mean: float
    deviation: float


@torch.inference_mode()
def sentence_features(model: TextModel, split: Dataset, pad_id: int, batch_size: int, description: str) -> np.ndarray:
    """Compute a feature vector for each sentence.

    It is the mean over the sentence's tokens of the encoder's output, or of the decoder's output of a language model.

    Args:
        model: any; it is left in evaluation mode.
        split: token ids of M sentences.
        pad_id: id of the padding token.
        batch_size: sentences that go through the model together.
        description: label of the progress bar.

    Returns:
        [M, D], float32.
    """
    model.eval()
    device = model.device
    batches = in_order(len(split), batch_size)
    parts = []
    for batch in bar(loader(split, batches, pad_id, device), total=len(batches), desc=description, unit="batch"):
        batch = batch.to(device)
        packing = Packing.of(batch.key_padding_mask)
        if isinstance(model, TextAutoencoder):
            hidden = model.encode_tokens(batch.source, packing)  # [B, N, D], zeros at padding
        else:
            hidden = packing.pad(model.decode(batch.target_input, None, packing))
        lengths = (~batch.key_padding_mask).sum(dim=1, keepdim=True)
        parts.append((hidden.float().sum(dim=1) / lengths).cpu().numpy())
    return np.concatenate(parts)


def mauve(reference: np.ndarray, own: np.ndarray) -> Mauve | None:
    """Compute MAUVE of two texts from the features of their sentences.

    The features are scaled to unit length and reduced to the principal components with `VARIANCE` of the variance.
    k-means clusters both texts together, and `frontier_area` compares the shares of the clusters in each. The number of
    clusters grows with the number of sentences. Values are comparable only for equal numbers of sentences and features
    of the same model.

    Args:
        reference: [M, D] features of real text.
        own: [N, D] features of the other text.

    Returns:
        Mean and standard deviation over `SEEDS` seeds of k-means; None for fewer than `LEAST` sentences.
    """
    count = min(len(reference), len(own))
    if count < LEAST:
        return None
    # One thread adds in one order: the same features give the same value, whatever the number of cores.
    with threadpool_limits(1):
        values = [
            frontier_area(*_shares(clusters, len(reference)))
            for clusters in _clusterings(np.concatenate([reference, own]), count // A_CLUSTER)
        ]
    return Mauve(float(np.mean(values)), float(np.std(values)))


def frontier_area(p: np.ndarray, q: np.ndarray) -> float:
    """Compute the area under the divergence frontier of two distributions (Pillutla et al. 2021, equations 1 and 2).

    A point of the frontier is (exp(-c KL(q ‖ r)), exp(-c KL(p ‖ r))) with r = λp + (1 - λ)q and c = `SCALE`.

    Args:
        p: [K] probabilities.
        q: [K] probabilities.

    Returns:
        The area in (0, 1], by the trapezoid rule over `POINTS` values of λ and the ends (0, 1) and (1, 0).
    """
    mixtures = [share * p + (1 - share) * q for share in np.linspace(1 - 1e-6, 1e-6, POINTS)]
    across, along = ([np.exp(-SCALE * _divergence(of, mixture)) for mixture in mixtures] for of in (q, p))
    return float(trapezoid([1.0, *along, 0.0], [0.0, *across, 1.0]))


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Compute KL(p ‖ q) in nats; q is positive wherever p is."""
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))


def _clusterings(features: np.ndarray, count: int) -> list[np.ndarray]:
    """Cluster features [M, D] into `count` clusters with each seed, and return the clusters' numbers [M]."""
    # Imported here: heavy, and the quality report reads only the constants of this module where it needs no MAUVE.
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning

    features = features.astype(np.float64)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    if not np.any(features != features[0]):
        return [np.zeros(len(features), dtype=np.int64)] * SEEDS
    reduced = PCA(VARIANCE, svd_solver="covariance_eigh").fit(features).transform(features).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different sentences than clusters
        started = {"init": "random", "n_init": 1, "max_iter": 500}
        return [KMeans(count, **started, random_state=seed).fit_predict(reduced) for seed in range(SEEDS)]


def _shares(clusters: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each cluster's share of the first sentences and of the others, [K] each."""
    size = int(clusters.max()) + 1
    counts = (np.bincount(part, minlength=size) for part in (clusters[:first], clusters[first:]))
    p, q = (count / count.sum() for count in counts)
    return p, q


def mauve_figures(judge: Experiment, samples: Dataset, name: str, batch_size: int) -> dict[str, float | int | None]:
    """Compare samples and controls with real text by MAUVE over the features of a judge.

    Args:
        judge: experiment of the judge.
        samples: token ids of the samples, by the judge's tokenizer.
        name: key of the figure.
        batch_size: sentences that go through the judge together.

    Returns:
        The figures of `compared_with_training`.
    """

    def features(split: Dataset, description: str) -> np.ndarray:
        return sentence_features(judge.model, split, judge.data.tokenizer.pad_id, batch_size, description)

    return compared_with_training(judge.data, samples, name, features)


def semantic_mauve_figures(
    encoder: SentenceEncoder, data: PreparedData, samples: Dataset, batch_size: int
) -> dict[str, float | int | None]:
    """Compare samples and controls with real text by MAUVE over the vectors of a sentence encoder.

    No model of the suite is judge here, so that values of different experiments on the same data compare.

    Args:
        encoder: sentence encoder.
        data: prepared data.
        samples: token ids of the samples, by the tokenizer of the data.
        batch_size: sentences that go through the encoder together.

    Returns:
        The figures of `compared_with_training` under the key `SEMANTIC`.
    """

    def features(split: Dataset, description: str) -> np.ndarray:
        return encoder.encode(data.tokenizer.decode_batch(split["input_ids"]), batch_size, f"MiniLM {description}")

    return compared_with_training(data, samples, SEMANTIC, features)


def compared_with_training(
    data: PreparedData, samples: Dataset, name: str, features: Callable[[Dataset, str], np.ndarray]
) -> dict[str, float | int | None]:
    """Compare samples and controls with real text by MAUVE.

    The real text is a random part of the training split. The control of real text, the ceiling of the measure, is
    another part, disjoint from the first. All texts have the same number of sentences: `MOST`, all samples, or
    half of the training split, whichever is least.

    Args:
        data: prepared data.
        samples: token ids of the samples, by the tokenizer of the data.
        name: key of the figure.
        features: computes the features [M, D] of a split of M sentences, given a label for its progress bar.

    Returns:
        MAUVE of samples, real text and unigrams (None for rows) under the key and its suffixes; under
        `<name>_deviation`, that of the samples' MAUVE over k-means' seeds; under `<name>_count`, the sentences of each
        text. All are None for fewer than `LEAST` sentences.
    """
    train = data.splits["train"]
    count = min(MOST, len(samples), len(train) // 2)
    found: dict[str, float | int | None] = dict.fromkeys(
        (name, name + REAL_TEXT, name + UNIGRAMS, f"{name}_deviation", f"{name}_count")
    )
    if count < LEAST:
        return found
    parts = np.sort(np.random.default_rng(0).permutation(len(train))[: 2 * count].reshape(2, count))
    reference, other = (train.select(part) for part in parts)
    texts = [(name, samples.select(range(count)), "samples"), (name + REAL_TEXT, other, "other training text")]
    if unigrams_are_texts(data):
        texts.append((name + UNIGRAMS, unigram_sentences(data, count), "unigrams"))
    real = features(reference, "features of training text")
    found[f"{name}_count"] = count
    for key, text, kind in texts:
        value = mauve(real, features(text, f"features of {kind}"))
        found[key] = value.mean if value else None
        if key == name:
            found[f"{name}_deviation"] = value.deviation if value else None
    return found
