"""The training loop: batches, resuming, checkpoints, early stopping and losses that are not finite."""

import json
import math
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import MODELS, build
from pipeline.data.batches import RUNS_OF_A_WINDOW, EpochOrder, collate, in_order
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.experiments.config import new_config, start_or_continue
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import DEFAULT_STEPS, TrainingSettings
from pipeline.experiments.weights import load_checkpoint
from pipeline.runtime.errors import UserError
from pipeline.training.diagnostics import largest_gradient
from pipeline.training.trainer import Trainer
from pipeline.training.validation import Figures
from tests.helpers import call, one_line_of_error, one_precision_again, prepare_tiny

SMALL = {"dim_h": 16}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def data(data_dir: Path) -> PreparedData:
    return load_prepared(data_dir, "tiny")


def trainer(data: PreparedData, folder: Path, model: str = "NVIB", **training) -> Trainer:
    one_precision_again()
    torch.manual_seed(0)
    files = ExperimentFiles(folder)
    settings = TrainingSettings(**{"batch_size": 32, "precision": "fp32", **training})
    built = build(MODELS[model](vocabulary_size=data.tokenizer.vocabulary_size, **SMALL))
    return Trainer(built, data, settings, files, Tracker(files, run=None, offline=True))


def test_an_epoch_holds_every_sentence_once():
    batches = list(EpochOrder(1000, 16, seed=1, epoch=0))
    assert sorted(number for batch in batches for number in batch) == list(range(1000))
    assert {len(batch) for batch in batches} <= {16, 1000 % 16}


def test_the_order_follows_from_seed_and_epoch_and_can_start_within_an_epoch():
    order = [list(EpochOrder(200, 8, seed=1, epoch=3)) for _ in range(2)]
    assert order[0] == order[1]
    assert list(EpochOrder(200, 8, seed=1, epoch=4)) != order[0]
    assert list(EpochOrder(200, 8, seed=2, epoch=3)) != order[0]
    assert list(EpochOrder(200, 8, seed=1, epoch=3, first=40)) == order[0][5:]


@pytest.mark.parametrize("window", [1, 300, 1999, 2000])
def test_an_epoch_shuffled_by_windows_holds_every_sentence_once_and_can_start_within(window: int):
    whole = list(EpochOrder(2000, 16, seed=1, epoch=0, window=window))
    assert sorted(number for batch in whole for number in batch) == list(range(2000))
    assert len(whole) == len(EpochOrder(2000, 16, seed=1, epoch=0, window=window)) == 125
    assert list(EpochOrder(2000, 16, seed=1, epoch=0, first=48 * 16, window=window)) == whole[48:]
    assert list(EpochOrder(2000, 16, seed=1, epoch=1, window=window)) != whole


def test_a_window_reads_few_runs_of_neighbours():
    """Each of 100 windows holds a hundredth of all runs, and shuffles each run."""
    order = EpochOrder(1_000_000, 10_000, seed=1, epoch=0, window=RUNS_OF_A_WINDOW * 39)
    first = np.concatenate(list(order))[: order.window]
    runs = np.unique(first // 39)
    assert len(runs) == RUNS_OF_A_WINDOW
    assert np.diff(first[first // 39 == runs[0]]).min() < 0
    assert np.abs(np.corrcoef(first, np.arange(len(first)))[0, 1]) < 0.05


def test_processes_share_the_batches_of_one():
    whole = list(EpochOrder(100, 8, seed=1, epoch=0))
    parts = [list(EpochOrder(100, 4, seed=1, epoch=0, rank=rank, processes=2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_a_batch_shifts_the_decoder_input_by_one():
    batch = collate([[2, 7, 8, 3], [2, 9, 3]], pad_id=0)
    assert batch.source.tolist() == [[7, 8, 3], [9, 3, 0]]
    assert batch.target_input.tolist() == [[2, 7, 8], [2, 9, 0]]
    assert batch.key_padding_mask.tolist() == [[False] * 3, [False, False, True]]
    assert batch.tokens == 5
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]


def test_accumulated_gradients_equal_those_of_one_large_batch(data, tmp_path: Path):
    """Dropout and sampling are off, so that nothing else differs."""
    gradients = []
    for size, steps in ((48, 1), (16, 3)):
        own = trainer(data, tmp_path / str(size), batch_size=size, accumulation_steps=steps, gradient_clip=1e9)
        rows = list(range(48))
        batches = [
            collate([data.splits["train"][n]["input_ids"] for n in rows[i : i + size]], 0) for i in range(0, 48, size)
        ]
        own.trained.eval()
        own.optimizer.zero_grad = lambda set_to_none=True: None
        own._step(batches, Figures())
        gradients.append({name: p.grad.clone() for name, p in own.model.named_parameters() if p.grad is not None})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_run(data, tmp_path: Path, model: str):
    settings = {"epochs": 3, "save_steps": 5}
    whole = trainer(data, tmp_path / "whole", model, **settings)
    whole.train()
    stopped = trainer(data, tmp_path / "stopped", model, **settings)
    step = stopped._step

    def stop_in_the_second_epoch(group, figures):
        if stopped.progress.step == 13:
            raise KeyboardInterrupt
        step(group, figures)

    stopped._step = stop_in_the_second_epoch
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    continued = trainer(data, tmp_path / "stopped", model, **settings)
    assert continued.resume()
    assert continued.progress.step == 10
    continued.train()
    for name in ("latest.safetensors", "best.safetensors"):
        a, b = (load_file(tmp_path / part / name) for part in ("whole", "stopped"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    rows = [
        [json.loads(line) for line in (tmp_path / part / "metrics.jsonl").read_text().splitlines()]
        for part in ("whole", "stopped")
    ]
    for a, b in zip(*rows, strict=True):
        clocks = {"seconds", "tokens_per_second", "checksum"}
        assert {k: v for k, v in a.items() if k not in clocks} == {k: v for k, v in b.items() if k not in clocks}


@pytest.mark.parametrize("model", list(MODELS))
def test_gradient_checkpointing_changes_no_bit_and_keeps_fewer_elements(data, tmp_path: Path, model: str):
    """Dropout and draws of the latent are the same in the second forward pass."""
    weights, kept = [], []
    for again in (False, True):
        own = trainer(data, tmp_path / str(again), model, max_steps=2, gradient_checkpointing=again)
        elements = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal elements
            elements += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            own.train()
        weights.append(load_file(own.files.latest))
        kept.append(elements)
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert kept[1] < kept[0]


@pytest.mark.slow
def test_the_number_of_loader_workers_changes_no_bit(data, tmp_path: Path):
    for workers in (0, 1, 2):
        trainer(data, tmp_path / str(workers), max_steps=6, loader_workers=workers).train()
    found = [load_file(tmp_path / str(workers) / "latest.safetensors") for workers in (0, 1, 2)]
    assert all(torch.equal(tensor, other[name]) for name, tensor in found[0].items() for other in found[1:])


def test_a_step_limit_before_the_checkpoint_evaluates_the_checkpoint(data, tmp_path: Path):
    stopped = trainer(data, tmp_path, max_steps=100, save_steps=5)
    stopped._save = lambda save=stopped._save: (save(), (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    shorter = trainer(data, tmp_path, max_steps=4)
    assert shorter.resume()
    assert shorter.train()["best_epoch"] == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 5


def test_the_best_checkpoint_has_the_lowest_validation_loss_at_full_strength(data, tmp_path: Path):
    own = trainer(data, tmp_path, epochs=3)
    losses = iter([1.0, 0.5, 0.7])
    evaluate = own.evaluator.evaluate
    own.evaluator.evaluate = lambda: {**evaluate(), "loss": next(losses)}
    figures = own.train()
    assert figures["best_epoch"] == 2
    assert figures["validation/loss"] == 0.5


def test_figures_are_forgotten_when_their_weights_are_replaced_and_no_earlier(data, tmp_path: Path):
    own, seen = trainer(data, tmp_path, epochs=4), []
    losses = iter([1.0, 1.5, 0.5])
    evaluate = own.evaluator.evaluate

    def evaluated() -> dict[str, float]:
        seen.append((tmp_path / "summary.json").exists())
        return {**evaluate(), "loss": next(losses)}

    def measured(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            own.tracker.summarise({"best_epoch": 1, "validation/reconstruction_bleu": 50.0})
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    own.evaluator.evaluate, own.after_epoch = evaluated, measured
    with pytest.raises(KeyboardInterrupt):
        own.train()
    assert seen == [False, True, True]
    assert not (tmp_path / "summary.json").exists()
    again = trainer(data, tmp_path, epochs=4)
    again.tracker.summarise({"validation/reconstruction_bleu": 60.0})
    assert again.resume()
    again.evaluator.evaluate = lambda: {**evaluate(), "loss": 2.0}
    again.tracker.summarise(again.train())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["best_epoch"], summary["validation/reconstruction_bleu"]) == (3, 60.0)


def test_removing_an_experiment_empties_the_folder_of_a_link_and_keeps_the_link(tmp_path: Path):
    (tmp_path / "large" / "a").mkdir(parents=True)
    (tmp_path / "a").symlink_to(tmp_path / "large" / "a")
    for _ in range(2):
        (tmp_path / "a" / "config.json").write_text("{}")
        ExperimentFiles(tmp_path / "a").remove()
        assert not list((tmp_path / "a").iterdir())
    assert (tmp_path / "a").is_symlink() and len(list((tmp_path / "large").iterdir())) == 1


def test_training_stops_after_patience_epochs_without_a_lower_validation_loss(data, tmp_path: Path):
    own = trainer(data, tmp_path, "LM", epochs=20, patience=2)
    losses = iter([1.0, 0.5, 0.7, 0.4, 0.4, 0.6, 0.1])
    evaluate = own.evaluator.evaluate
    own.evaluator.evaluate = lambda: {**evaluate(), "loss": next(losses)}
    assert own.train()["best_epoch"] == 4
    assert own.progress.epoch == 6
    again = trainer(data, tmp_path, "LM", epochs=20, patience=2)
    assert again.resume()
    assert again.train()["best_epoch"] == 4
    assert again.progress.epoch == 6


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoints(data, tmp_path: Path):
    own = trainer(data, tmp_path, epochs=2, save_steps=2)
    step = own._step

    def break_the_weights(group, figures):
        if own.progress.step == 5:
            with torch.no_grad():
                own.model.output.weight[0, 0] = float("nan")
        step(group, figures)

    own._step = break_the_weights
    with pytest.raises(UserError, match=r"the loss became nan at step 6 \(epoch 1, batch 6: .* largest gradient"):
        own.train()
    tensors, state = load_checkpoint(tmp_path / "latest.safetensors", "")
    assert state["step"] == 4
    assert all(t.isfinite().all() for t in tensors.values())


def test_the_quantities_behind_a_loss_that_is_not_finite_are_named(data, tmp_path: Path):
    own = trainer(data, tmp_path)
    with torch.no_grad():
        own.model.bottleneck.logvar.bias[0] = float("nan")
    with pytest.raises(UserError) as reported:
        own.train()
    for quantity in ("KL_G in [nan", "KL_D in [", "mu in [", "log sigma^2 in [nan", "alpha0_q in [", "log alpha in ["):
        assert quantity in str(reported.value)


def test_a_step_with_a_loss_that_is_not_finite_can_be_skipped_and_is_counted(data, tmp_path: Path, capsys):
    own = trainer(data, tmp_path, epochs=2, on_non_finite="skip")
    penalty, before = own.model.penalty, {}

    def burst(encoding, progress, *prices):
        value = penalty(encoding, progress)
        if own.progress.step == 3 and own.model.training:
            before.update({name: p.detach().clone() for name, p in own.model.named_parameters()})
            return value * float("inf")
        if own.progress.step == 4 and own.model.training:
            assert all(torch.equal(p, before[name]) for name, p in own.model.named_parameters())
        return value

    own.model.penalty = burst
    figures = own.train()
    assert figures["train/skipped_steps"] == 1
    assert "at step 4 (epoch 1, batch 4" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
    again = trainer(data, tmp_path, epochs=2, on_non_finite="skip")
    assert again.resume()
    assert again.train()["train/skipped_steps"] == 1


def test_an_epoch_without_a_finite_step_ends_the_run(data, tmp_path: Path):
    own = trainer(data, tmp_path, epochs=2, on_non_finite="skip")
    with torch.no_grad():
        own.model.output.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="no step of epoch 1 had a finite loss"):
        own.train()


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_trains_close_to_float32(data, tmp_path: Path, model: str):
    losses = []
    for precision in ("fp32", "bf16"):
        own = trainer(data, tmp_path / precision, model, max_steps=8, precision=precision)
        losses.append(own.train()["validation/cross_entropy"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_the_largest_gradient_is_named():
    model = torch.nn.Linear(2, 1)
    assert largest_gradient(model) == ("no parameter (no parameter has a gradient yet)", 0.0)
    model(torch.tensor([[3.0, -5.0]])).backward()
    assert largest_gradient(model) == ("weight", 5.0)
    model.bias.grad[0] = float("inf")
    assert largest_gradient(model) == ("bias", float("inf"))


def test_the_budget_is_the_smaller_limit_or_the_default():
    assert TrainingSettings().total_steps(100) == DEFAULT_STEPS
    assert TrainingSettings(epochs=3).total_steps(100) == 300
    assert TrainingSettings(max_steps=50).total_steps(100) == 50
    assert TrainingSettings(epochs=1, max_steps=500).total_steps(100) == 100


def test_the_learning_rate_warms_up(data, tmp_path: Path):
    own = trainer(data, tmp_path, learning_rate=0.5, warmup_steps=4)
    assert [own.learning_rate(step) for step in (0, 1, 3, 9)] == [0.125, 0.25, 0.5, 0.5]


def test_the_learning_rate_falls_at_the_end(data, tmp_path: Path):
    own = trainer(data, tmp_path, learning_rate=0.5, max_steps=20, cooldown=0.25)
    assert [own.learning_rate(step) for step in (0, 14, 15, 17, 19)] == pytest.approx([0.5, 0.5, 0.5, 0.3, 0.1])


@pytest.mark.parametrize(("cooldown", "expected"), [(0.0, 0.5), (0.25, 0.0)])
def test_the_learning_rate_is_not_negative_after_a_limit_that_was_lowered(
    data, tmp_path: Path, cooldown: float, expected: float
):
    own = trainer(data, tmp_path, learning_rate=0.5, max_steps=5, cooldown=cooldown)
    assert own.learning_rate(9) == expected


def test_a_folder_of_the_project_is_no_name_of_an_experiment(tmp_path: Path):
    for name in ("report", "logs"):
        line = one_line_of_error(call("train.py", "--EXPERIMENT_NAME", name, "--OUTPUT_DIR", tmp_path, expect=2))
        assert f"--EXPERIMENT_NAME {name} is the folder of" in line


def test_an_experiment_name_with_other_settings_is_refused_with_the_difference(tmp_path: Path):
    files, training = ExperimentFiles(tmp_path / "run"), TrainingSettings(max_steps=5)
    config = new_config(MODELS["T"](vocabulary_size=10), training, "tiny", {"fingerprint": "abc"})
    start_or_continue(files, config)
    longer = new_config(MODELS["T"](vocabulary_size=10), TrainingSettings(max_steps=9), "tiny", {"fingerprint": "abc"})
    assert start_or_continue(files, longer)["wandb_id"] == config["wandb_id"]
    other = new_config(MODELS["T"](vocabulary_size=10, dim_h=32), training, "tiny", {"fingerprint": "abc"})
    with pytest.raises(UserError, match="was trained with dim_h = 256, not 32"):
        start_or_continue(files, other)


def test_the_same_command_leaves_a_finished_run_and_restart_replaces_it(data_dir: Path, tmp_path: Path):
    command = ("--EXPERIMENT_NAME", "a", "--OUTPUT_DIR", tmp_path, "--DATA_DIR", data_dir, "--DATA", "tiny")
    command += ("--DIM_H", 16, "--SAVE_STEPS", 3, "--BATCH_SIZE", 32)
    call("train.py", *command, "--MAX_STEPS", 5)
    metrics = (tmp_path / "nvib" / "a" / "metrics.jsonl").read_text()
    again = call("train.py", *command, "--MAX_STEPS", 5)
    assert "continuing after step 5 of 5" in again.stdout
    assert (tmp_path / "nvib" / "a" / "metrics.jsonl").read_text() == metrics
    assert f"learning_rate = {TrainingSettings().learning_rate}, not 0.5" in one_line_of_error(
        call("train.py", *command, "--LEARNING_RATE", 0.5, expect=2)
    )
    shutil.copy(tmp_path / "nvib" / "a" / "config.json", tmp_path / "before.json")
    call("train.py", *command, "--LEARNING_RATE", 0.5, "--MAX_STEPS", 5, "--RESTART", "True")
    assert json.loads((tmp_path / "nvib" / "a" / "config.json").read_text())["training"]["learning_rate"] == 0.5


def test_the_bar_says_how_much_time_the_run_has_left(data, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.training.diagnostics.tqdm.format_interval", lambda seconds: f"<{seconds:.3f}>")
    started = time.monotonic()
    trainer(data, tmp_path / "a", batch_size=16, accumulation_steps=2, epochs=2).train()
    whole = time.monotonic() - started
    shown = [float(found) for found in re.findall(r"run: <([\d.]+)> left", capsys.readouterr().err)]
    assert 0 < shown[0] < 4 * whole
    assert shown[-1] == 0
