"""Membership inference: the area under the curve, and the losses that it compares."""

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pipeline.data.batches import collate
from pipeline.evaluation import membership
from pipeline.evaluation.bootstrap import area_estimate, area_under_curve
from pipeline.evaluation.judge import as_split
from pipeline.evaluation.membership import losses, members_and_others
from pipeline.experiments.load import load_experiment
from pipeline.runtime.threads import calls_on_one_thread_each


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


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ["nvib", "vanilla"])
def test_losses_compute_each_sentence_once_on_one_thread(
    trained: Path, monkeypatch: pytest.MonkeyPatch, name: str, large: bool
):
    known = load_experiment(trained / "outputs", "nvib", name, trained / "data")
    model, pad_id = known.model.eval(), known.data.tokenizer.pad_id
    split = known.data.splits["test"].select(range(20))
    expected = []
    for ids in split["input_ids"]:
        batch = collate([ids], pad_id)
        with torch.inference_mode():
            encoding, loss = model(batch.source, batch.key_padding_mask, batch.target_input)
            expected.append((loss.mean.item(), (loss.mean + model.penalty(encoding, progress=1.0)).item()))
    threads, callers = [], set()

    def note(*_: object) -> None:
        threads.append(torch.get_num_threads())
        callers.add(threading.current_thread())

    monkeypatch.setattr(membership, "LARGE", 0 if large else 10**12)
    model.register_forward_pre_hook(note)
    torch.set_num_threads(2)  # PyTorch would divide every operation between two threads
    try:
        found = losses(model, split, pad_id, "")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert threads == [1] * len(split)
    assert (threading.main_thread() in callers) is not large
    # Bit for bit, in the order of the sentences.
    np.testing.assert_array_equal(np.stack([found["reconstruction"], found["objective"]], axis=1), expected)


def test_an_error_in_a_thread_is_raised_and_the_number_of_threads_is_restored():
    def fail(number: int) -> int:
        raise ValueError(f"item {number}")

    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="item 0"), calls_on_one_thread_each(2) as calls:
            list(calls(fail, range(5)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
def test_the_quality_report_does_not_import_what_only_training_needs():
    program = """
import sys
import pipeline.evaluation.sample_quality, pipeline.reporting.quality_page
print(sorted({"torch.distributed.checkpoint", "sympy", "transformers", "sklearn", "wandb"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_held_out_sentence_that_was_trained_on_is_left_out():
    train = [[2, 5, 6, 3], [2, 7, 8, 3]]
    splits = {"train": train, "validation": [[2, 9, 3], train[0]], "test": [train[1]]}
    data = SimpleNamespace(
        splits={name: as_split(rows) for name, rows in splits.items()}, tokenizer=SimpleNamespace(label_ids=[])
    )
    kinds = members_and_others(data, "validation")
    assert {kind: split["input_ids"][:] for kind, split in kinds.items()} == {"members": train, "others": [[2, 9, 3]]}
