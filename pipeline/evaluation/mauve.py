"""MAUVE (Pillutla et al. 2021) over a model's own features: nothing is downloaded."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from models.autoencoder import TextAutoencoder
from models.packing import Packing
from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.runtime.progress import bar

if TYPE_CHECKING:
    from datasets import Dataset

A_CLUSTER = 20  # sentences of either text; with fewer, k-means has too few to place its centres by
LEAST = 2 * A_CLUSTER


@torch.inference_mode()
def sentence_features(model: TextModel, split: "Dataset", pad_id: int, batch_size: int, description: str) -> np.ndarray:
    """A vector for each sentence: the mean of the encoder's output over its tokens, of an LM the decoder's.

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
    """MAUVE of two texts by their sentences' features, in (0, 1], 1 where they are alike.

    The clusters are as many as there are `A_CLUSTER` sentences of a text, so that values of other numbers of
    sentences or of other models' features are not comparable.

    Args:
        reference: [M, D], of real text.
        own: [M, D].

    Returns:
        None of fewer than `LEAST` sentences.
    """
    count = min(len(reference), len(own))
    if count < LEAST:
        return None
    # Under the GPL: asked, and no part of it taken. Its own models are never loaded, since it is given features.
    from mauve import compute_mauve

    return float(compute_mauve(reference, own, num_buckets=count // A_CLUSTER, seed=0).mauve)
