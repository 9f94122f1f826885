"""Does a model's loss tell the sentences that it was trained on from others? (Yeom et al. 2018)

The attack is the simplest there is; a figure of 0.5 says that this one learns nothing, and nothing of others.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.text_model import TextModel
from pipeline.data.batches import in_order, loader
from pipeline.evaluation.diversity import Tokens
from pipeline.runtime.progress import bar

if TYPE_CHECKING:
    from datasets import Dataset

    from pipeline.data.dataset import PreparedData

SENTENCES = 1000  # of either kind, at most


@torch.inference_mode()
def losses(model: TextModel, split: "Dataset", pad_id: int, description: str) -> dict[str, np.ndarray]:
    """What each sentence costs a model, sentence by sentence, so that every model's own objective can be asked for.

    Args:
        model: any; the latent is the mean one.
        split: sentences' ids.
        pad_id: of the padding token.
        description: of the progress bar.

    Returns:
        `reconstruction`, [M], cross-entropy in nats a token, and `objective`, [M], with the regulariser at full
        strength added: what training minimised.
    """
    model.eval()
    device = model.output.weight.device
    batches = loader(split, in_order(len(split), 1), pad_id, device, workers=0)
    reconstruction, objective = [], []
    for batch in bar(batches, total=len(split), desc=description, unit="sentence"):
        batch = batch.to(device)
        encoding, loss = model(batch.source, batch.key_padding_mask, batch.target_input)
        reconstruction.append(float(loss.mean))
        objective.append(float(loss.mean + model.penalty(encoding, progress=1.0)))
    return {"reconstruction": np.array(reconstruction), "objective": np.array(objective)}


def members_and_others(data: "PreparedData", subset: str, seed: int = 0) -> "dict[str, Dataset]":
    """Sentences of the training split and of both held-out splits, at most `SENTENCES` of each.

    Held-out sentences that stand in the training split too, under whatever label, are left out: they are members.

    Returns:
        `members`; `others`, of the subset; `again`, of the other held-out split, which tells how far two splits that
        no training has seen can be told apart. A kind of which there is none is left out.
    """
    train, labels = data.splits["train"], data.tokenizer.label_ids
    known = set(Tokens.of(train, labels).sentences())
    chosen = {"members": _some(train, range(len(train)), seed)}
    for kind, part in (("others", subset), ("again", "test" if subset == "validation" else "validation")):
        split = data.splits[part]
        texts = Tokens.of(split, labels).sentences()
        chosen[kind] = _some(split, [number for number, ids in enumerate(texts) if ids not in known], seed)
    return {kind: split for kind, split in chosen.items() if len(split)}


def _some(split: "Dataset", numbers: Sequence[int], seed: int) -> "Dataset":
    order = np.random.default_rng(seed).permutation(len(numbers))[:SENTENCES]
    return split.select([numbers[place] for place in np.sort(order)])
