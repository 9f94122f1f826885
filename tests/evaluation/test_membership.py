"""Membership inference: the area under the curve, and the losses that it compares."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipeline.data.batches import collate
from pipeline.evaluation.bootstrap import area_estimate, area_under_curve
from pipeline.evaluation.judge import as_split
from pipeline.evaluation.membership import losses, members_and_others
from pipeline.experiments.load import load_experiment


def test_the_area_is_a_half_for_equal_scores_and_one_for_separate_scores():
    random_ = np.random.default_rng(0)
    a, b = random_.normal(size=800), random_.normal(size=600)
    same = area_estimate(a, b)
    assert same.value == pytest.approx(0.5, abs=0.05)
    assert same.low < 0.5 < same.high
    apart = area_estimate(a + 100, b)
    assert (apart.value, apart.low, apart.high) == (1.0, 1.0, 1.0)
    assert area_estimate(a - 100, b).value == 0.0
    tied = np.round(a, 1), np.round(b + 0.3, 1)
    truth = np.repeat([1, 0], [len(a), len(b)])
    assert area_under_curve(*tied) == pytest.approx(roc_auc_score(truth, np.concatenate(tied)))


def test_a_sentence_s_loss_is_the_training_objective(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data")
    split = known.data.splits["test"].select(range(5))
    found = losses(known.model, split, known.data.tokenizer.pad_id, "")
    for number, ids in enumerate(split["input_ids"]):
        batch = collate([ids], known.data.tokenizer.pad_id)
        with torch.no_grad():
            encoding = known.model.encode(batch.source, batch.key_padding_mask)
            logits = known.model.output(known.model.decode(batch.target_input, encoding.latent))[0]
            own = torch.nn.functional.cross_entropy(logits, batch.source[0]).item()
            settings = known.model.settings
            penalty = settings.kl_gaussian_lambda * encoding.kl_gaussian
            penalty = penalty + settings.kl_dirichlet_lambda * encoding.kl_dirichlet
        assert found["reconstruction"][number] == pytest.approx(own, rel=1e-4)
        assert found["objective"][number] == pytest.approx(own + penalty.item(), rel=1e-4)
    assert (found["objective"] > found["reconstruction"]).all()


def test_a_held_out_sentence_that_was_trained_on_is_left_out():
    train = [[2, 5, 6, 3], [2, 7, 8, 3]]
    splits = {"train": train, "validation": [[2, 9, 3], train[0]], "test": [train[1]]}
    data = SimpleNamespace(
        splits={name: as_split(rows) for name, rows in splits.items()}, tokenizer=SimpleNamespace(label_ids=[])
    )
    kinds = members_and_others(data, "validation")
    assert {kind: split["input_ids"][:] for kind, split in kinds.items()} == {"members": train, "others": [[2, 9, 3]]}
