"""Control of the rate: prices that follow targets, from the first step of control to the end, also after a stop."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import MODELS, build
from models.text_model import Prices
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.experiments.config import new_config, write_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.experiments.weights import load_checkpoint
from pipeline.runtime.errors import LostError
from pipeline.runtime.signals import Interrupted
from pipeline.training.rate_control import BOUNDS, CHECK_STEPS, SOON, RateControl, octaves
from pipeline.training.trainer import Trainer
from tests.helpers import one_precision_again, prepare_tiny

NVIB = MODELS["NVIB"](vocabulary_size=10, dim_h=16)
STEPS = 4000


def control(**settings) -> RateControl:
    return RateControl(TrainingSettings(**settings), NVIB, STEPS)


def simulated(controller: RateControl, excess: float = 1.0) -> list[float]:
    """Rates of a simulated model, whose rate moves slowly towards one that the price allows."""
    rate, rates = 800.0, []
    for step in range(1, STEPS + 1):
        allowed = 400.0 / controller.prices.gaussian**0.6
        rate *= (allowed / rate) ** 0.02
        sums = {"rate": 4 * rate / excess, "vectors_kept_fraction": 4 * 0.9, "sentences": 4.0}
        validation = {"rate": rate, "perplexity": 1.2 if step > 500 else 9.0}
        controller.after_step(step, sums, list, lambda validation=validation: validation)
        rates.append(rate)
    return rates


@pytest.mark.parametrize("target", [120, 60, 30, 15])
@pytest.mark.parametrize("excess", [1.0, 1.1])
def test_a_rate_that_is_asked_for_is_met_on_validation_sentences(target: float, excess: float):
    controller = control(target_rate=target)
    rates = simulated(controller, excess)
    assert controller.state.started == 550  # the first look at a perplexity that is low enough
    assert rates[-1] == pytest.approx(target, rel=0.05)
    assert min(rates) > 0.9 * target  # no vector is priced out on the way


def test_around_a_pretrained_model_control_begins_after_a_few_steps():
    base = MODELS["NVIB"](vocabulary_size=10, dim_h=16, pretrained="base")
    controller = RateControl(TrainingSettings(target_rate=30.0), base, STEPS)
    sums = {"rate": 30.0, "vectors_kept_fraction": 1.0, "sentences": 1.0}
    for step in range(1, SOON + 1):
        assert not controller.started
        controller.after_step(step, sums, list, lambda: {"rate": 30.0, "perplexity": 1.1})
    assert controller.state.started == SOON


def test_control_begins_where_the_rate_costs_as_much_as_the_cross_entropy():
    controller = control(target_rate=60.0)
    sums = {"rate": 800.0, "vectors_kept_fraction": 1.0, "sentences": 1.0}
    controller.after_step(CHECK_STEPS, sums, list, lambda: {"rate": 800.0, "perplexity": math.exp(0.2)})
    cost = controller.prices.gaussian * NVIB.kl_gaussian_lambda * 800.0 / NVIB.dim_h
    assert cost == pytest.approx(0.2)
    dearer = control(target_rate=60.0)
    dearer.inherit(Prices(1000.0, 1.0))
    dearer.after_step(CHECK_STEPS, sums, list, lambda: {"rate": 800.0, "perplexity": math.exp(0.2)})
    assert dearer.prices.gaussian == pytest.approx(1000.0)


def test_without_a_target_the_prices_remain():
    controller = control()
    simulated(controller)
    assert not controller.active
    assert (controller.prices.gaussian, controller.prices.dirichlet) == (1.0, 1.0)


def test_the_path_of_a_rate_falls_geometrically():
    controller = control(rate_path=(120.0, 15.0))
    controller.state.started = 1000
    targets = [controller.target_rate(step) for step in (1000, 1900, 2800, 3700, 4000)]
    assert targets == pytest.approx([120.0, 60.0, 30.0, 15.0, 15.0])


def test_the_share_of_vectors_follows_the_price_of_the_pseudo_counts():
    controller = control(target_kept=0.4)
    controller.state.started = 0
    for step in range(1, 300):
        controller.update(step, 50.0, 0.9)
    assert controller.prices.dirichlet > 5
    assert controller.prices.gaussian == 1.0
    for step in range(300, 900):
        controller.update(step, 50.0, 0.1)
    assert controller.prices.dirichlet < 1


def test_prices_are_bounded():
    controller = control(target_rate=1.0)
    controller.state.started, controller.state.first_rate = 0, 1.0
    for step in range(1, 3 * STEPS):
        controller.update(step, 1e9, 1.0)
    assert math.log(controller.prices.gaussian) == pytest.approx(BOUNDS[1])


def test_a_missed_target_is_named_with_what_to_do():
    controller = control(target_rate=30.0, target_kept=0.4)
    met = {"validation/rate": 31.0, "validation/vectors_kept_fraction": 0.41}
    (waiting,) = controller.shortfalls(met)
    assert "--START_PERPLEXITY 1.5" in waiting
    controller.state.started = 50
    assert controller.shortfalls(met) == []
    rate, kept = controller.shortfalls({"validation/rate": 77.0, "validation/vectors_kept_fraction": 0.96})
    assert "77, not the 30" in rate
    assert "--MAX_STEPS" in rate
    assert "0.96, not the 0.4" in kept
    assert "--DELTA" in kept
    stopped = control(target_rate=30.0, patience=2)
    stopped.state.started = 50
    (rate,) = stopped.shortfalls({"validation/rate": 37.5})
    assert "a higher --PATIENCE" in rate
    path = control(rate_path=(120.0, 15.0))
    path.state.started = 50
    assert len(path.shortfalls({"validation/rate": 20.0})) == 1
    assert control().shortfalls({}) == []


@pytest.mark.parametrize("setting", [("vector_dropout", 0.5), ("prior_texts", 0.5), ("posterior_temperature", 2.0)])
def test_a_dropout_of_vectors_that_never_began_is_named(setting: tuple[str, float]):
    model = MODELS["NVIB"](vocabulary_size=10, dim_h=16, **dict([setting]))
    controller = RateControl(TrainingSettings(), model, STEPS)
    (waiting,) = controller.shortfalls({})
    assert "no vector was dropped or replaced" in waiting
    controller.state.started = 50
    assert controller.shortfalls({}) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    folder = tmp_path_factory.mktemp("data")
    prepare_tiny(folder)
    return load_prepared(folder, "tiny")


def trainer(data: PreparedData, folder: Path, name: str = "NVIB", **training) -> Trainer:
    one_precision_again()
    torch.manual_seed(0)
    files = ExperimentFiles(folder)
    settings = TrainingSettings(
        **{"batch_size": 8, "precision": "fp32", "learning_rate": 0.01, "gradient_clip": 1.0, "start_perplexity": 1e6}
        | {"target_rate": 2.0, "max_steps": 3 * CHECK_STEPS}
        | training
    )
    own = {"kl_weighting": "component", "vector_dropout": 0.5} if name == "NVIB" else {}
    # With one head it depends on the processor's rounding whether VTV leaves the plateau within these steps.
    own = {"num_heads": 4} if name == "VTV" else own
    model = MODELS[name](data.tokenizer.vocabulary_size, dim_h=16, dropout=0.0, **own)
    return Trainer(build(model), data, settings, files, Tracker(files, run=None, offline=True))


@pytest.mark.slow
def test_training_controls_the_rate_and_hides_vectors_from_the_first_look_on(data: PreparedData, tmp_path: Path):
    own = trainer(data, tmp_path)
    free = trainer(data, tmp_path / "free", target_rate=None)
    figures, others = own.train(), free.train()
    assert own.control.state.started == CHECK_STEPS
    assert own.model.dropping
    assert free.model.dropping
    assert figures["validation/rate"] < 0.8 * others["validation/rate"]
    assert free.control.prices.gaussian == 1.0
    assert not free.files.control.exists()
    never = trainer(data, tmp_path / "never", start_perplexity=1.0001)
    never.train()
    assert not never.model.dropping
    assert never.control.prices.gaussian == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start"), [("VTV", 8.0), ("VTP", 1e6), ("VTS", 1e6)])
def test_every_model_with_gaussians_ends_with_its_rate(data: PreparedData, tmp_path: Path, name: str, start: float):
    own = trainer(data, tmp_path, name, target_rate=6.0, max_steps=12 * CHECK_STEPS, start_perplexity=start)
    assert own.train()["validation/rate"] == pytest.approx(6.0, rel=0.05)
    assert own.control.started


@pytest.mark.slow
def test_a_controlled_run_resumes_with_the_same_bits(data: PreparedData, tmp_path: Path, monkeypatch):
    whole = trainer(data, tmp_path / "whole")
    expected = whole.train()
    stopped = trainer(data, tmp_path / "stopped")
    step = Trainer._step

    def stopping(self, group, figures):
        sums = step(self, group, figures)
        if self.progress.step == CHECK_STEPS + 20:
            self.stopping = True
        return sums

    monkeypatch.setattr(Trainer, "_step", stopping)
    with pytest.raises(Interrupted):
        stopped.train()
    monkeypatch.undo()
    resumed = trainer(data, tmp_path / "stopped")
    assert resumed.resume()
    assert resumed.control.state == stopped.control.state
    assert resumed.train() == expected
    assert same_ends(tmp_path / "whole", tmp_path / "stopped")


def same_ends(one: Path, other: Path) -> bool:
    """True if the latest checkpoints of two runs have the same bits and the same controller."""
    (tensors, state), (others, other_state) = (
        load_checkpoint(path / "latest.safetensors", "") for path in (one, other)
    )
    same = all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    return same and state["control"] == other_state["control"]


@pytest.mark.slow
@pytest.mark.parametrize("target", [2.0, 0.5])
def test_a_run_that_is_stopped_after_its_calibration_is_not_calibrated_again(
    data: PreparedData, tmp_path: Path, target: float
):
    whole = trainer(data, tmp_path / "whole", target_rate=target)
    whole.train()
    last = whole.progress.step
    assert whole.control.state.calibrated == last
    stopped = trainer(data, tmp_path / "stopped", target_rate=target)
    stopped.evaluator.evaluate = raising(Interrupted(15), stopped, last)
    with pytest.raises(Interrupted, match=f"stopped after step {last} of {last}"):
        stopped.train()
    resumed = trainer(data, tmp_path / "stopped", target_rate=target)
    assert resumed.resume()
    resumed.train()
    assert same_ends(tmp_path / "whole", tmp_path / "stopped")
    best, latest = (load_checkpoint(tmp_path / "stopped" / f"{name}.safetensors", "")[0] for name in ("best", "latest"))
    assert all(torch.equal(tensor, latest[f"model/{name}"]) for name, tensor in best.items())


def test_a_process_that_is_lost_while_control_waits_for_it_leaves_a_state_that_agrees(
    data: PreparedData, tmp_path: Path, monkeypatch
):
    """The saved weights are those after the saved step, so that no step is taken twice."""
    short = trainer(data, tmp_path / "short", max_steps=7)
    short.train()
    own = trainer(data, tmp_path / "own")
    sums = own._sums

    def lost(values):
        if own.progress.step == 7:
            raise RuntimeError("Connection closed by peer")
        return sums(values)

    monkeypatch.setattr("pipeline.training.trainer.ignore_signals", lambda: None)
    monkeypatch.setattr("pipeline.training.trainer.peer_lost", lambda error: True)
    own._sums = lost
    with pytest.raises(LostError, match="step 7 of"):
        own.train()
    tensors, state = load_checkpoint(tmp_path / "own" / "latest.safetensors", "")
    assert (state["step"], state["sentences"]) == (7, 56)
    others, _ = load_checkpoint(tmp_path / "short" / "latest.safetensors", "")
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


@pytest.mark.slow
def test_a_signal_in_the_evaluation_of_an_octave_loses_neither_the_state_nor_the_octave(
    data: PreparedData, tmp_path: Path
):
    def on_a_path(name: str) -> Trainer:
        own = trainer(
            data,
            tmp_path / "outputs" / name / "run",
            target_rate=None,
            rate_path=(800.0, 1.0),
            max_steps=3 * CHECK_STEPS,
        )
        write_config(own.files, new_config(own.model.settings, own.settings, "tiny", data.identity))
        return own

    on_a_path("whole").train()
    stopped = on_a_path("stopped")
    stopped.evaluator.evaluate = raising(Interrupted(15), stopped, 2 * CHECK_STEPS)
    with pytest.raises(Interrupted, match=f"stopped after step {2 * CHECK_STEPS} of"):
        stopped.train()
    resumed = on_a_path("stopped")
    assert resumed.resume()
    resumed.train()
    assert same_ends(tmp_path / "outputs" / "whole" / "run", tmp_path / "outputs" / "stopped" / "run")
    names = [sorted(path.name for path in (tmp_path / "outputs" / name).iterdir()) for name in ("whole", "stopped")]
    assert names[0] == names[1]
    assert "run-rate-800" in names[0]
    for name in names[0]:
        one, other = (load_file(tmp_path / "outputs" / run / name / "best.safetensors") for run in ("whole", "stopped"))
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def raising(error: BaseException, own: Trainer, step: int) -> Callable[[], dict[str, float]]:
    """Return an evaluation that raises an error after a step."""
    evaluate = own.evaluator.evaluate

    def evaluated() -> dict[str, float]:
        if own.progress.step == step:
            raise error
        return evaluate()

    return evaluated


@pytest.mark.slow
def test_every_look_of_the_controller_is_written(data: PreparedData, tmp_path: Path):
    own = trainer(data, tmp_path)
    own.train()
    looks = [json.loads(line) for line in own.files.control.read_text().splitlines()]
    assert [look["step"] for look in looks] == [CHECK_STEPS, 2 * CHECK_STEPS, 3 * CHECK_STEPS]
    assert looks[-1]["rate"] == own.control.state.validation
    assert looks[-1]["target_rate"] == own.control.target_rate(3 * CHECK_STEPS)
    assert looks[-1]["price_gaussian"] == own.control.prices.gaussian > 1.0
    last = json.loads(own.files.metrics.read_text().splitlines()[-1])
    assert last["train/price_gaussian"] == own.control.prices.gaussian


@pytest.mark.slow
def test_the_best_weights_are_the_last_ones_where_the_rate_is_controlled(data: PreparedData, tmp_path: Path):
    own = trainer(data, tmp_path, epochs=3, max_steps=-1)
    assert own.train()["best_epoch"] == 3


@pytest.mark.slow
def test_every_octave_of_a_path_is_an_experiment_of_its_own(data: PreparedData, tmp_path: Path):
    folder = tmp_path / "outputs" / "nvib" / "path"
    own = trainer(
        data, folder, target_rate=None, rate_path=(16.0, 8.0), max_steps=16 * CHECK_STEPS, start_perplexity=4.0
    )
    config = new_config(own.model.settings, own.settings, "tiny", data.identity)
    write_config(own.files, config)
    figures = own.train()
    names = sorted(path.name for path in folder.parent.iterdir() if path.is_dir() and "rate" in path.name)
    assert names == ["path-rate-16", "path-rate-8"]
    rates = []
    for rate in (16, 8):
        summary = json.loads((folder.parent / f"path-rate-{rate}" / "summary.json").read_text())
        rates.append(summary["validation/rate"])
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == figures["validation/rate"]
    last, path = (load_file(folder.parent / name / "best.safetensors") for name in ("path-rate-8", "path"))
    assert all(torch.equal(tensor, path[name]) for name, tensor in last.items())


def test_the_octaves_of_a_path_end_with_its_last_rate():
    assert octaves((120.0, 15.0)) == [120.0, 60.0, 30.0, 15.0]
    assert octaves((100.0, 30.0)) == [100.0, 50.0, 30.0]
    assert octaves(None) == []


def test_a_run_that_starts_from_another_begins_with_its_prices():
    controller = control(target_rate=30.0)
    controller.inherit(Prices(50.0, 2.0))
    assert controller.prices == Prices(50.0, 2.0)
    controller.state.started, controller.state.first_rate = 0, 30.0
    controller.update(1, 30.0, 1.0)
    assert controller.prices.gaussian == pytest.approx(50.0)
    free = control()
    free.inherit(Prices(50.0, 2.0))
    assert free.prices == Prices(1.0, 1.0)
