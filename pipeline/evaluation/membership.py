"""Membership inference by the loss (Yeom et al. 2018): tell training sentences from others.

The attack is the simplest known. A figure of 0.5 says that this attack learns nothing; stronger attacks may learn more.
"""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset

from models.text_model import TextModel
from pipeline.data.batches import Batch, in_order, loader
from pipeline.data.dataset import PreparedData
from pipeline.evaluation.diversity import Tokens
from pipeline.runtime.progress import bar
from pipeline.runtime.threads import calls_on_one_thread_each
from pipeline.training.validation import scoring

SENTENCES = 1000  # largest number of sentences of each kind
LARGE = 1_000_000  # weights of a model from which a sentence takes longer in PyTorch than in Python


def losses(model: TextModel, split: Dataset, pad_id: int, description: str) -> dict[str, np.ndarray]:
    """Compute the loss of each sentence, in batches of one sentence.

    On a CPU each sentence takes one thread, and a large model computes as many sentences at the same time as PyTorch
    has threads. The losses do not depend on the number of threads.

    Args:
        model: any; it is left in evaluation mode. The latent is the mean of its posterior.
        split: token ids of M sentences.
        pad_id: id of the padding token.
        description: label of the progress bar.

    Returns:
        `reconstruction`, [M], cross-entropy in nats a token, and `objective`, [M], the training objective: the same
        plus the regulariser at full strength.
    """
    model.eval()
    device = model.device
    batches = loader(split, in_order(len(split), 1), pad_id, device, workers=0)
    large = sum(weight.numel() for weight in model.parameters()) >= LARGE
    workers = torch.get_num_threads() if large and device.type == "cpu" else 1

    @torch.inference_mode()
    def of_sentence(batch: Batch) -> tuple[float, float]:
        batch = batch.to(device)
        with scoring(model, device):
            encoding, loss = model(batch.source, batch.key_padding_mask, batch.target_input)
        return float(loss.mean), float(loss.mean + model.penalty(encoding, progress=1.0))

    with calls_on_one_thread_each(workers) as calls:
        found = calls(of_sentence, batches)
        values = np.array(list(bar(found, total=len(split), desc=description, unit="sentence"))).reshape(-1, 2)
    return {"reconstruction": values[:, 0], "objective": values[:, 1]}


def members_and_others(data: PreparedData, subset: str, seed: int = 0) -> dict[str, Dataset]:
    """Choose random sentences of the training split and of both held-out splits, at most `SENTENCES` of each.

    Held-out sentences that are in the training split too, under any label, are members and left out.

    Args:
        data: prepared data.
        subset: held-out split of the non-members, `validation` or `test`.
        seed: seed of the choice.

    Returns:
        `members`; `others` of the subset; `again` of the other held-out split. The attack on the latter in the members'
        place shows how far two splits differ that no training has seen. A kind without sentences is left out.
    """
    train, labels = data.splits["train"], data.tokenizer.label_ids
    known = set(Tokens.of(train, labels).sentences())
    chosen = {"members": _some(train, range(len(train)), seed)}
    for kind, part in (("others", subset), ("again", "test" if subset == "validation" else "validation")):
        split = data.splits[part]
        texts = Tokens.of(split, labels).sentences()
        chosen[kind] = _some(split, [number for number, ids in enumerate(texts) if ids not in known], seed)
    return {kind: split for kind, split in chosen.items() if len(split)}


def _some(split: Dataset, numbers: Sequence[int], seed: int) -> Dataset:
    """Select at most `SENTENCES` random sentences of those with the given numbers, in order."""
    order = np.random.default_rng(seed).permutation(len(numbers))[:SENTENCES]
    return split.select([numbers[place] for place in np.sort(order)])
