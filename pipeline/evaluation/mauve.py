"""MAUVE (Pillutla et al. 2021) over features of the experiment's own model, so that nothing is downloaded."""

import numpy as np
import torch
from datasets import Dataset

from models.autoencoder import TextAutoencoder
from models.packing import Packing
from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.runtime.progress import bar

A_CLUSTER = 20  # sentences of a text for each cluster; k-means cannot place its centres with fewer
LEAST = 2 * A_CLUSTER  # sentences of a text that MAUVE needs


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
