"""Two real processes that compute together, against one."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.gaussian import with_free_bits
from pipeline.data.batches import EpochOrder
from pipeline.experiments.weights import load_checkpoint
from tests.helpers import ROOT, call, of_rank, one_line_of_error, prepare_tiny, run, run_ranks, start, wait_for

COMPUTED = {"train/cross_entropy", "validation/cross_entropy", "validation/end_cross_entropy", "validation/perplexity"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, an NVAE and a language model."""
    folder = tmp_path_factory.mktemp("processes")
    prepare_tiny(folder / "data")
    for name, model in (("nvib", "NVIB"), ("lm", "LM")):
        call("train.py", *at(folder, name), "--MODEL", model, *SMALL, "--BATCH_SIZE", 32, "--EPOCHS", 1)
    return folder


SMALL = ("--DATA", "tiny", "--DIM_H", 16, "--PRECISION", "fp32")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / "outputs" / "nvib" / name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("accelerate", [False, True])
def test_two_processes_have_the_loss_and_the_gradients_of_one_with_twice_the_batch(folder: Path, accelerate: bool):
    """After one step Adam's first moment is a tenth of the gradient; the figures of the epoch agree as well."""
    command = (*SMALL, "--DROPOUT", 0, "--GRADIENT_CLIP", 1e9, "--MAX_STEPS", 1, "--RESTART", "True")
    call("train.py", *at(folder, "one"), *command, "--BATCH_SIZE", 32)
    run("train.py", *at(folder, "two"), *command, "--BATCH_SIZE", 16, processes=2, accelerate=accelerate)
    for a, b in zip(rows(folder, "one"), rows(folder, "two"), strict=True):
        for name in COMPUTED:
            assert b[name] == pytest.approx(a[name], rel=1e-4)
    a, b = (load_file(folder / "outputs" / "nvib" / name / "latest.safetensors") for name in ("one", "two"))
    moments = [name for name in a if name.endswith("|exp_avg")]
    assert len(moments) > 10
    for name in moments:
        assert (a[name] - b[name]).norm() <= 1e-4 * a[name].norm(), name


@pytest.mark.slow
def test_free_bits_of_two_processes_have_the_gradients_of_one_with_twice_the_batch(tmp_path: Path):
    """Whether a dimension is free follows from its mean over the texts of both processes, which have 2 and 1."""
    by_dimension = torch.tensor([[1.0, 0.2, 3.0], [2.0, 0.4, 0.1], [0.1, 0.3, 0.2]]).requires_grad_()
    with_free_bits(by_dimension, 0.6).backward()
    whole = by_dimension.grad
    assert [bool(part.any()) for part in whole.T] == [True, False, True]
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, sys, torch\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from models.gaussian import with_free_bits\n"
        "torch.distributed.init_process_group('gloo')\n"
        "rank = int(os.environ['RANK'])\n"
        f"own = torch.tensor({by_dimension.tolist()})[[slice(0, 2), slice(2, 3)][rank]].requires_grad_()\n"
        "value = with_free_bits(own, 0.6)\n"
        "(value * len(own) / 3).backward()\n"
        "torch.save([value.item() * len(own) / 3, own.grad], sys.argv[1] + str(rank))\n"
        "with torch.no_grad():\n"
        "    if rank == 0:\n"
        "        with_free_bits(own.detach(), 0.6)  # in evaluation the other process may have no batch left\n"
    )
    run_ranks(script, tmp_path / "part")
    parts = [torch.load(tmp_path / f"part{rank}") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([gradient for _, gradient in parts]), whole)
    assert sum(value for value, _ in parts) == pytest.approx(with_free_bits(by_dimension, 0.6).item())


@pytest.mark.slow
def test_measurements_of_two_processes_equal_those_of_one(folder: Path):
    """Every file, its order included, and every figure is the same."""
    kept = {}
    for processes in (1, 2):
        for script, *flags in (
            ("sample.py", "--NUMBER_SAMPLES", 25, "--DECODING", "sample"),
            ("reconstruction.py", "--DATA_SUBSET", "test"),
            ("interpolation_evaluation.py", "--LANGUAGE_MODEL", "lm"),
        ):
            command = (script, *at(folder, "nvib"), *flags, "--GENERATION_BATCH_SIZE", 4)
            call(*command) if processes == 1 else run_ranks(*command)
        experiment = folder / "outputs" / "nvib" / "nvib"
        names = ("samples.jsonl", "samples.txt", "reconstruction_test.jsonl", "interpolations.jsonl", "summary.json")
        kept[processes] = {name: (experiment / name).read_text() for name in names}
        for name in names[:-1]:
            (experiment / name).unlink()
    assert len(kept[1]["samples.txt"].splitlines()) == 25
    assert "samples/same_draw_bleu" in json.loads(kept[1]["summary.json"])
    assert kept[1] == kept[2]


@pytest.mark.slow
def test_samples_near_a_sentence_are_the_same_with_two_processes_and_with_one(folder: Path):
    control = ("--NEAR", "the old king left.", "--LATENT_TEMPERATURE", 0.7, "--DECODING", "beam", "--MIN_LENGTH", 5)
    command = ("sample.py", *at(folder, "nvib"), *control, "--NUMBER_SAMPLES", 9, "--GENERATION_BATCH_SIZE", 2)
    kept = []
    for processes in (1, 2):
        call(*command) if processes == 1 else run_ranks(*command)
        kept.append((folder / "outputs" / "nvib" / "nvib" / "samples.jsonl").read_text())
    assert len(kept[0].splitlines()) == 9
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_bounds_of_two_processes_equal_those_of_one(folder: Path):
    call("train.py", *at(folder, "vtv"), "--MODEL", "VTV", *SMALL, "--MAX_STEPS", 2)
    command = ("reconstruction.py", *at(folder, "vtv"), "--IMPORTANCE_SAMPLES", 3, "--GENERATION_BATCH_SIZE", 8)
    figures = []
    for processes in (1, 2):
        call(*command) if processes == 1 else run_ranks(*command)
        figures.append(json.loads((folder / "outputs" / "nvib" / "vtv" / "summary.json").read_text()))
    assert "validation/importance_weighted_bound" in figures[0]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_one_process_resumes_a_run_of_two_and_sees_each_sentence_once(folder: Path):
    command = (*at(folder, "changing"), *SMALL, "--BATCH_SIZE", 16, "--DROPOUT", 0, "--SAVE_STEPS", 1)
    process = start("train.py", *command, "--EPOCHS", 1000, processes=2)  # more epochs than it can reach
    wait_for(folder / "outputs" / "nvib" / "changing" / "latest.safetensors")
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[0]
    assert process.returncode != 0
    assert "which is saved; the same command continues there" in said
    step = int(said.split("stopped after step ")[1].split()[0])
    sentences = 240
    whole, within = divmod(step, -(-sentences // 32))  # complete epochs of two processes, and steps of the next epoch
    shown = call("train.py", *command, "--EPOCHS", whole + 2).stdout
    assert f"continuing after step {step} of" in shown
    last = rows(folder, "changing")[-1]
    left = [-(-(sentences - 32 * within) // 16), sentences // 16]
    assert last["epoch"] == whole + 2
    assert last["step"] == step + sum(left)


def test_a_position_within_an_epoch_counts_sentences_for_any_number_of_processes():
    order = [n for batch in list(EpochOrder(100, 8, seed=1, epoch=0)) for n in batch]
    two = [list(EpochOrder(100, 4, seed=1, epoch=0, first=40, rank=rank, processes=2)) for rank in (0, 1)]
    assert [n for a, b in zip(*two, strict=True) for n in sorted([*a, *b], key=order.index)] == order[40:]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_if_one_of_two_processes_is_killed_the_other_reports_it_and_the_run_resumes(folder: Path, rank: int):
    """Also if rank 0 is killed, which writes and logs as long as it lives."""
    name = f"killed{rank}"
    command = (*at(folder, name), *SMALL, "--BATCH_SIZE", 4, "--EPOCHS", 50, "--SAVE_STEPS", 1000)
    process = start("train.py", *command, processes=2)
    kept = folder / "outputs" / "nvib" / name / "latest.safetensors"
    wait_for(kept)
    os.kill(of_rank(process, rank), signal.SIGKILL)
    said = process.communicate(timeout=90)[0]
    assert process.returncode != 0
    reported = re.findall(r"train\.py: .*", said)  # a progress bar may precede it
    assert len(reported) == 1, said
    step = load_checkpoint(kept, "")[1]["step"]
    assert f"step {step} of" in reported[0]
    assert reported[0].endswith("is saved, and the same command continues there")
    shown = call("train.py", *command, "--EPOCHS", 4).stdout
    assert f"continuing after step {step}" in shown


@pytest.mark.slow
def test_both_processes_skip_the_step_if_the_loss_of_one_is_not_finite(folder: Path, tmp_path: Path):
    """The loss is infinite in the first of the two batches of a step; the other process still computes the second."""
    script = tmp_path / "train.py"
    script.write_text(
        f"import os, runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from models.language_model import LanguageModel\n"
        "penalty, batches = LanguageModel.penalty, []\n"
        "def burst(self, encoding, progress, *prices):\n"
        "    batches.append(self.training)\n"
        "    bad = sum(batches) == 3 and self.training and os.environ['RANK'] == '1'\n"
        "    return penalty(self, encoding, progress, *prices) + (float('inf') if bad else 0.0)\n"
        "LanguageModel.penalty = burst\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
    )
    flags = (*SMALL, "--MODEL", "LM", "--BATCH_SIZE", 8, "--ACCUMULATION_STEPS", 2, "--MAX_STEPS", 4)
    finished = run_ranks(script, *at(folder, "burst"), *flags, "--ON_NON_FINITE", "skip")
    assert finished.stderr.count("the step is skipped") == 1
    assert "warning: the loss became inf at step 2 (epoch 1, batch 3" in finished.stderr
    assert json.loads((folder / "outputs" / "nvib" / "burst" / "summary.json").read_text())["train/skipped_steps"] == 1


@pytest.mark.parametrize("script", ["prepareDatasets.py", "reverseSampleEvaluation.py", "report.py", "tune.py"])
def test_a_script_for_one_process_refuses_two(script: str, monkeypatch: pytest.MonkeyPatch):
    needed = {"reverseSampleEvaluation.py": ("--EXPERIMENT_NAME", "a", "--LANGUAGE_MODEL", "lm")}
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = one_line_of_error(call(script, *needed.get(script, ()), expect=2))
    assert line == f"{script}: error: it runs in one process; start it without torchrun or accelerate launch"


@pytest.mark.slow
def test_a_process_that_the_launcher_ends_for_the_error_of_another_prints_nothing(tmp_path: Path):
    """It may be slower than the launcher, for example still importing."""
    script, ready = tmp_path / "script.py", tmp_path / "ready"
    script.write_text(
        f"import os, pathlib, sys, time\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from pipeline.cli import entry, parser\nfrom pipeline.runtime.errors import UserError\n"
        f"ready = pathlib.Path({str(ready)!r})\n"
        "def main():\n"
        "    if os.environ['RANK'] == '1':\n"
        "        ready.touch()\n        time.sleep(60)\n"
        "    while not ready.exists():\n        time.sleep(0.01)\n"
        "    raise UserError('this is wrong')\n"
        "entry.run(main)\n"
    )
    finished = run(script, expect=1, processes=2)
    reported = [line for line in finished.stderr.splitlines() if line.startswith("script.py")]
    assert reported == ["script.py: error: this is wrong"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("meets", "reported"),
    [
        ("raise UserError('this is wrong')", "this is wrong"),
        ("parser.Parser('', together=True).parse_args(['--WINGS', '2'])", "unrecognized arguments: --WINGS 2 (see"),
        ("parser.Parser('').parse_args([])", "it runs in one process"),
    ],
)
def test_an_error_of_all_processes_is_printed_once_even_if_rank_0_is_the_slowest(
    tmp_path: Path, meets: str, reported: str
):
    script = tmp_path / "script.py"
    script.write_text(
        f"import os, sys, time\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from pipeline.cli import entry, parser\nfrom pipeline.runtime.errors import UserError\n"
        "def main():\n"
        "    if os.environ['RANK'] == '0':\n"
        "        time.sleep(4)\n"
        f"    {meets}\n"
        "entry.run(main)\n"
    )
    finished = run(script, expect=1, processes=2)
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("script.py: ")]
    assert line.startswith(f"script.py: error: {reported}")


@pytest.mark.slow
def test_a_launched_script_prints_the_error_of_all_processes_once(folder: Path):
    finished = run("sample.py", *at(folder, "absent"), expect=1, processes=2)
    reported = [line for line in finished.stderr.splitlines() if line.startswith("sample.py: error")]
    assert len(reported) == 1, finished.stderr
    assert "no experiment 'absent'" in reported[0]
    assert "--MODEL" in one_line_of_error(call("train.py", *at(folder, "a"), "--MODEL", "none", expect=2))
