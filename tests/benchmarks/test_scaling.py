"""How cost grows: the arithmetic against the real models, what is measured, and the tables that follow from both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import costs, memory, scaling, step
from benchmarks import doc_tables as tables
from benchmarks.costs import Model
from models import build

SMALL = [
    Model(500, 32, 1, 1, False),
    Model(500, 64, 3, 2, False),
    Model(500, 32, 1, 1, True),
    Model(900, 64, 2, 4, True),
]


def real(model: Model, length: int = 20, sentences: int = 8) -> step.Step:
    """A step of the real model of these sizes."""
    made = step.Step("NVIB" if model.nvib else "T", sentences, length, model.vocabulary, model.width, model.layers)
    settings = type(made.model.settings)(model.vocabulary, model.width, model.heads, model.layers)
    made.model = build(settings)
    made.optimizer = torch.optim.Adam(made.model.parameters(), fused=True)
    return made


@pytest.mark.parametrize("model", SMALL)
def test_parameters_on_paper_are_those_of_the_real_model(model: Model):
    found = real(model).model
    assert costs.size(model) == sum(parameter.numel() for parameter in found.parameters())
    encoder = sum(parameter.numel() for parameter in found.encoder.parameters())
    assert costs.parameters(model)["encoder"] == encoder


@pytest.mark.parametrize("model", SMALL)
def test_operations_on_paper_are_those_that_torch_counts(model: Model):
    """NVIB's keys are a little wider than the mathematics needs, for their bias."""
    made = real(model)
    with FlopCounterMode(display=False) as counter:
        made.loss().backward()
    counted = counter.get_total_flops() / made.batch.tokens
    assert costs.training_flops(model, 20) == pytest.approx(counted, rel=0.02 if model.nvib else 1e-9)


@pytest.mark.parametrize("length", [20, 40])
@pytest.mark.parametrize("model", SMALL)
def test_kept_bytes_on_paper_are_those_that_autograd_keeps(model: Model, length: int):
    made = real(model, length)
    kept = made.kept_bytes() / made.batch.tokens
    assert costs.activation_bytes(model, length) == pytest.approx(kept, rel=0.04)


def test_state_on_paper_is_weights_gradients_and_adams_moments():
    model = SMALL[0]
    made = real(model)
    made.loss().backward()
    gradients = [parameter.grad for parameter in made.model.parameters()]
    made.optimizer.step()
    moments = [value for state in made.optimizer.state.values() for name, value in state.items() if name != "step"]
    held = [*made.model.parameters(), *gradients, *moments]
    assert costs.state_bytes(model) == sum(4 * tensor.numel() for tensor in held)


def test_layers_and_projection_are_even_at_the_even_width():
    width = round(costs.even_width(30_522, 6))
    parts = costs.forward_flops(Model(30_522, width, 6, nvib=False), 25)
    assert parts["layers"] == pytest.approx(parts["projection to the vocabulary"], rel=0.01)


def test_a_rings_processes_send_twice_what_each_lacks_and_shards_half_as_much_again():
    """Simulated: each of K pieces goes round K - 1 times to be summed and K - 1 times to be told."""
    for count in (1, 2, 8, 64):
        pieces = 2 * (count - 1) * (6400 / count)
        assert costs.exchanged(6400, count) == pytest.approx(4 * pieces)
        assert costs.exchanged_sharded(6400, count) == pytest.approx(4 * 1.5 * pieces)


def test_work_and_exchange_take_equally_long_at_the_even_batch():
    model = Model(width=1024, layers=12)
    tokens = costs.even_tokens(model, 64, 50e9, 25)
    spent = costs.gpu_seconds(model, tokens, 25, operations=0)
    assert costs.step_seconds(spent) == pytest.approx(costs.exchanged(costs.size(model), 64) / 50e9)


def test_a_step_waits_for_the_host_or_for_the_gpu_whichever_is_slower():
    model = Model()
    few, many = (costs.gpu_seconds(model, tokens, 25, operations=700) for tokens in (100, 10**6))
    assert costs.step_seconds(few) == few["launches"]
    assert costs.step_seconds(many) > many["launches"]


def test_a_line_and_a_power_are_found_again():
    assert costs.line([1, 2, 5], [7, 9, 15]) == pytest.approx((5, 2))
    assert costs.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    with pytest.raises(ValueError, match="two different places"):
        costs.line([3, 3], [1, 2])


HOLD = "import time; held = bytearray(b'x') * {count}; time.sleep(0.5)"


def test_the_memory_of_a_commands_child_is_seen():
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(count=200 * 2**20)!r}])"
    idle, busy = (memory.watch([sys.executable, "-c", code]) for code in (HOLD.format(count=1), child))
    assert idle.anonymous < 100e6
    assert 200e6 < busy.anonymous < 300e6
    assert busy.peak >= busy.anonymous
    assert busy.seconds > 0.5


def test_memory_that_forked_processes_share_counts_once():
    code = "import os, time; held = bytearray(b'x') * (200 * 2**20); os.fork(); time.sleep(0.5)"
    assert memory.watch([sys.executable, "-c", code]).anonymous < 300e6


def test_a_watched_command_that_fails_says_so_with_what_it_printed():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        memory.watch([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    assert (caught.value.returncode, caught.value.output) == (3, "why\n")


def test_only_the_training_file_is_repeated(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for part in ("train", "valid", "test"):
        (source / f"wiki.{part}.tokens").write_text(f" {part} text \n")
    scaling.repeat_training(source, tmp_path / "three", 3)
    assert (tmp_path / "three" / "wiki.train.tokens").read_text() == " train text \n" * 3
    assert (tmp_path / "three" / "wiki.valid.tokens").read_text() == " valid text \n"


def test_operations_that_only_look_at_a_tensor_are_not_counted():
    values = torch.ones(2, 3)
    with step.Operations() as counted:
        values.t().view(3, 2).mul(2)
        values.add_(1)
    assert counted.count == 2


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads(tables.RESULTS.read_text())


def test_the_texts_hold_the_tables_that_follow_from_the_measurements(results: dict):
    for path in tables.TEXTS:
        text = path.read_text()
        assert tables.filled(text, results) == text, f"{path.name}: python -m benchmarks.doc_tables writes its tables"
    assert {found["name"] for found in tables.MARKED.finditer(tables.TEXTS[0].read_text())} <= set(tables.TABLES)


def test_a_corpus_that_was_not_run_is_extrapolated_by_its_size(results: dict):
    measured = results["corpus"]["rows"][0]
    size = measured["training_bytes"]
    same = tables.extrapolated(results, tables.Corpus(1, size, size, size))
    assert same["sentences"] == pytest.approx(measured["training_sentences"])
    half = tables.extrapolated(results, tables.Corpus(1, 2 * size, 2 * size, size, share=0.5))
    assert half["tokens"] == pytest.approx(measured["training_tokens"])
    assert half["epoch"] == pytest.approx(half["tokens"] / tables.cpu_speed(results))
    assert half["disk"] > 1.5 * same["disk"]


def test_the_sizes_that_the_page_speaks_of_follow_from_the_functions():
    """What its sentences say in numbers that no table holds."""
    text = " ".join((tables.ROOT / "docs" / "scaling.md").read_text().split())
    model, wide = tables.MODELS["default"], tables.MODELS["12 × 1024"]
    flops = costs.training_flops(model, tables.LENGTH)
    rate = costs.UTILISATION * costs.H100.flops
    said = {
        "times 3: {:.0f} M a token": flops / 1e6,
        "a width of {:,.0f} at one layer": costs.even_width(30_522, 1),
        "{:.0f} at six": costs.even_width(30_522, 6),
        "{:.0f} at twelve": costs.even_width(30_522, 12),
        "{:.2f} µs a token at 40 % of the peak": 1e6 * flops / rate,
        "way through memory {:.2f} µs": 1e6 * costs.LOGIT_TRAFFIC * model.vocabulary / costs.H100.bandwidth,
        "keeps {:.1f} GB at the default sizes": 1024 * 24.9e-9 * costs.activation_bytes(model, 24.9),
        "and {:.0f} GB at 12 × 1024": 1024 * 24.9e-9 * costs.activation_bytes(wide, 24.9),
        "= {:.1f} · 10¹⁸ operations": tables.TOKENS * flops / 1e18,
        "of some 5 µs (assumed) are {:.1f} ms": 2 * 63 * 5e-3,
    }
    for form, value in said.items():
        assert form.format(value) in text


def test_names_and_units_are_chosen_by_size():
    assert [tables.duration(value) for value in (5e-6, 0.25, 60, 7200, 1e9)] == [
        "5 µs",
        "250 ms",
        "60 s",
        "2 h",
        "31.7 years",
    ]
    assert [tables.bytes_(value) for value in (8, 4096, 8e9)] == ["8 B", "4.1 kB", "8 GB"]
