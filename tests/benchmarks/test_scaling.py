"""Cost and scaling: formulas against the real models, measurements, and the tables computed from both."""

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
    """A training step of the real model of these sizes."""
    made = step.Step("NVIB" if model.nvib else "T", sentences, length, model.vocabulary, model.width, model.layers)
    settings = type(made.model.settings)(model.vocabulary, model.width, model.heads, model.layers)
    made.model = build(settings)
    made.optimizer = torch.optim.Adam(made.model.parameters(), fused=True)
    return made


@pytest.mark.parametrize("model", SMALL)
def test_computed_parameters_equal_those_of_the_real_model(model: Model):
    found = real(model).model
    assert costs.size(model) == sum(parameter.numel() for parameter in found.parameters())
    encoder = sum(parameter.numel() for parameter in found.encoder.parameters())
    assert costs.parameters(model)["encoder"] == encoder


@pytest.mark.parametrize("model", SMALL)
def test_computed_operations_equal_those_that_torch_counts(model: Model):
    """The keys of NVIB have extra columns for their bias, so 2 % are allowed."""
    made = real(model)
    with FlopCounterMode(display=False) as counter:
        made.loss().backward()
    counted = counter.get_total_flops() / made.batch.tokens
    assert costs.training_flops(model, 20) == pytest.approx(counted, rel=0.02 if model.nvib else 1e-9)


@pytest.mark.parametrize("length", [20, 40])
@pytest.mark.parametrize("model", SMALL)
def test_computed_activation_bytes_are_within_4_percent_of_those_that_autograd_keeps(model: Model, length: int):
    made = real(model, length)
    kept = made.kept_bytes() / made.batch.tokens
    assert costs.activation_bytes(model, length) == pytest.approx(kept, rel=0.04)


def test_computed_state_bytes_cover_weights_gradients_and_moments_of_adam():
    model = SMALL[0]
    made = real(model)
    made.loss().backward()
    gradients = [parameter.grad for parameter in made.model.parameters()]
    made.optimizer.step()
    moments = [value for state in made.optimizer.state.values() for name, value in state.items() if name != "step"]
    held = [*made.model.parameters(), *gradients, *moments]
    assert costs.state_bytes(model) == sum(4 * tensor.numel() for tensor in held)


def test_layers_and_projection_cost_the_same_at_the_even_width():
    width = round(costs.even_width(30_522, 6))
    parts = costs.forward_flops(Model(30_522, width, 6, nvib=False), 25)
    assert parts["layers"] == pytest.approx(parts["projection to the vocabulary"], rel=0.01)


def test_a_ring_sends_twice_the_missing_pieces_and_shards_half_as_much_again():
    """Each of K pieces moves K - 1 times to be summed and K - 1 times to be distributed."""
    for count in (1, 2, 8, 64):
        pieces = 2 * (count - 1) * (6400 / count)
        assert costs.exchanged(6400, count) == pytest.approx(4 * pieces)
        assert costs.exchanged_sharded(6400, count) == pytest.approx(4 * 1.5 * pieces)


def test_work_and_exchange_take_equally_long_at_the_even_batch():
    model = Model(width=1024, layers=12)
    tokens = costs.even_tokens(model, 64, 50e9, 25)
    spent = costs.gpu_seconds(model, tokens, 25, operations=0)
    assert costs.step_seconds(spent) == pytest.approx(costs.exchanged(costs.size(model), 64) / 50e9)


def test_a_step_takes_as_long_as_the_slower_of_host_and_gpu():
    model = Model()
    few, many = (costs.gpu_seconds(model, tokens, 25, operations=700) for tokens in (100, 10**6))
    assert costs.step_seconds(few) == few["launches"]
    assert costs.step_seconds(many) > many["launches"]


def test_the_fits_recover_a_line_and_a_power():
    assert costs.line([1, 2, 5], [7, 9, 15]) == pytest.approx((5, 2))
    assert costs.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    with pytest.raises(ValueError, match="two different values"):
        costs.line([3, 3], [1, 2])


HOLD = "import time; held = bytearray(b'x') * {count}; time.sleep(0.5)"


@pytest.mark.slow
def test_the_memory_of_a_child_process_is_counted():
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(count=200 * 2**20)!r}])"
    idle, busy = (memory.watch([sys.executable, "-c", code]) for code in (HOLD.format(count=1), child))
    assert idle.anonymous < 100e6
    assert 200e6 < busy.anonymous < 300e6
    assert busy.peak >= busy.anonymous
    assert busy.seconds > 0.5


def test_memory_that_forked_processes_share_counts_once():
    code = "import os, time; held = bytearray(b'x') * (200 * 2**20); os.fork(); time.sleep(0.5)"
    assert memory.watch([sys.executable, "-c", code]).anonymous < 300e6


def test_a_failing_watched_command_raises_with_its_output():
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


def test_views_are_not_counted_as_operations():
    values = torch.ones(2, 3)
    with step.Operations() as counted:
        values.t().view(3, 2).mul(2)
        values.add_(1)
    assert counted.count == 2


@pytest.fixture(scope="module")
def results() -> dict:
    return json.loads(tables.RESULTS.read_text())


def test_the_documents_hold_the_tables_of_the_measurements(results: dict):
    for path in tables.TEXTS:
        text = path.read_text()
        assert tables.filled(text, results) == text, f"{path.name}: python -m benchmarks.doc_tables writes its tables"
        named = {found["name"] for found in tables.MARKED.finditer(text)}
        assert named
        assert named <= {*tables.TABLES, *tables.OF_OWN_FILE}


def test_a_corpus_without_measurements_is_extrapolated_by_its_size(results: dict):
    measured = results["corpus"]["rows"][0]
    size = measured["training_bytes"]
    same = tables.extrapolated(results, tables.Corpus(1, size, size, size))
    assert same["sentences"] == pytest.approx(measured["training_sentences"])
    half = tables.extrapolated(results, tables.Corpus(1, 2 * size, 2 * size, size, share=0.5))
    assert half["tokens"] == pytest.approx(measured["training_tokens"])
    assert half["epoch"] == pytest.approx(half["tokens"] / tables.cpu_speed(results))
    assert half["disk"] > 1.5 * same["disk"]


def test_the_numbers_in_the_prose_of_the_page_follow_from_the_functions():
    """Numbers of its sentences that are in no table."""
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


def test_units_are_chosen_by_size():
    assert [tables.duration(value) for value in (5e-6, 0.25, 60, 7200, 1e9)] == [
        "5 µs",
        "250 ms",
        "60 s",
        "2 h",
        "31.7 years",
    ]
    assert [tables.bytes_(value) for value in (8, 4096, 8e9)] == ["8 B", "4.1 kB", "8 GB"]
