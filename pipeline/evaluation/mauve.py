"""MAUVE (Pillutla et al. 2021) over features of an experiment's model, so that nothing is downloaded."""

import numpy as np
import torch
from datasets import Dataset

from models.autoencoder import TextAutoencoder
from models.packing import Packing
from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.evaluation.controls import unigram_sentences
from pipeline.experiments.load import Experiment
from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
from pipeline.runtime.progress import bar

A_CLUSTER = 20  # sentences of a text for each cluster; k-means cannot place its centres with fewer
LEAST = 2 * A_CLUSTER  # sentences of a text that MAUVE needs
MOST = 5000  # sentences of a text that are compared with real ones, as in the paper


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
    device = model.output.weight.device
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


def mauve(reference: np.ndarray, own: np.ndarray) -> float | None:
    """Compute MAUVE of two texts from the features of their sentences.

    The number of clusters grows with the number of sentences. Values are comparable only for equal numbers of sentences
    and features of the same model.

    Args:
        reference: [M, D] features of real text.
        own: [N, D] features of the other text.

    Returns:
        MAUVE in (0, 1], 1 for texts that are alike; None for fewer than `LEAST` sentences.
    """
    count = min(len(reference), len(own))
    if count < LEAST:
        return None
    # Imported here: heavy, and only the quality report needs it. It is under the GPL: called, and no part of it taken.
    # Given features, it loads no model of its own.
    from mauve import compute_mauve

    buckets = count // A_CLUSTER
    found = compute_mauve(reference, own, num_buckets=buckets, seed=0)  # pyright: ignore[reportArgumentType] (an int, too)
    return float(found.mauve)


def mauve_figures(judge: Experiment, samples: Dataset, name: str, batch_size: int) -> dict[str, float | int | None]:
    """Compare samples and controls with real text by MAUVE over the features of a judge.

    The real text is a random part of the training split. The control of real text, the ceiling of the measure, is
    another part, disjoint from the first. All texts have the same number of sentences: `MOST`, all samples, or
    half of the training split, whichever is least.

    Args:
        judge: experiment of the judge.
        samples: token ids of the samples, by the judge's tokenizer.
        name: key of the figure.
        batch_size: sentences that go through the judge together.

    Returns:
        MAUVE of samples, real text and unigrams under the key and its suffixes, None for fewer than `LEAST` sentences;
        under `<name>_count`, the number of sentences of each text.
    """
    train, pad_id = judge.data.splits["train"], judge.data.tokenizer.pad_id
    count = min(MOST, len(samples), len(train) // 2)
    keys = (name, name + REAL_TEXT, name + UNIGRAMS)
    if count < LEAST:
        return {**dict.fromkeys(keys), f"{name}_count": None}
    parts = np.sort(np.random.default_rng(0).permutation(len(train))[: 2 * count].reshape(2, count))
    reference, other = (train.select(part) for part in parts)

    def features(split: Dataset, kind: str) -> np.ndarray:
        return sentence_features(judge.model, split, pad_id, batch_size, f"features of {kind}")

    texts = (samples.select(range(count)), other, unigram_sentences(judge.data, count))
    real = features(reference, "training text")
    kinds = zip(keys, texts, ("samples", "other training text", "unigrams"), strict=True)
    return {**{key: mauve(real, features(text, kind)) for key, text, kind in kinds}, f"{name}_count": count}
