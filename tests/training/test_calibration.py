"""Calibration of the rate at the end of a controlled run."""

import math

import pytest
import torch

from models import MODELS, build
from models.gaussian import widen
from models.text_model import TextModel
from pipeline.training.calibration import LIMIT, calibrate

VARIATIONAL = ("NVIB", "VTV", "VTP", "VTS")


def model(name: str, **settings) -> tuple[TextModel, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    built = build(MODELS[name](vocabulary_size=30, dim_h=16, num_heads=2, **settings)).eval()
    for layer in (each.logvar for each in built.modules() if hasattr(each, "logvar")):
        layer.bias.data.fill_(-4.0)  # a posterior that says something is narrower than the prior
    source = torch.randint(5, 30, (8, 9))
    return built, source, torch.zeros_like(source, dtype=torch.bool)


@pytest.mark.parametrize("name", VARIATIONAL)
@pytest.mark.parametrize("factor", [0.98, 1.0, 1.02])
def test_the_rate_is_the_one_that_is_asked_for(name: str, factor: float):
    built, source, mask = model(name)

    def rate() -> float:
        return float(built.encode(source, mask).rate.mean())

    weights = {key: value.clone() for key, value in built.state_dict().items()}
    target = factor * rate()
    shift = calibrate(built, target, rate)
    assert rate() == pytest.approx(target, rel=0.006)
    assert math.copysign(1.0, shift) == (1.0 if factor < 1.0 else -1.0) or shift == 0.0
    changed = {key for key, value in built.state_dict().items() if not torch.equal(value, weights[key])}
    assert all("logvar" in key for key in changed)
    assert bool(changed) == (factor != 1.0)


def test_calibration_keeps_a_prior_of_another_variance_in_place():
    built, source, mask = model("NVIB", prior_var=4.0)
    before = built.encode(source, mask).gaussians.logvar
    widen(built, 0.1, 4.0)
    after = built.encode(source, mask).gaussians.logvar
    torch.testing.assert_close(after - math.log(4.0), 0.9 * (before - math.log(4.0)))


def test_a_calibration_that_is_cut_short_leaves_the_model_as_it_was():
    built, _, _ = model("NVIB")
    weights = {key: value.clone() for key, value in built.state_dict().items()}
    rates = iter([1.0])

    def rate() -> float:
        return next(rates)

    with pytest.raises(StopIteration):
        calibrate(built, 1.1, rate)
    assert all(torch.equal(value, weights[key]) for key, value in built.state_dict().items())


@pytest.mark.parametrize("found", [0.0, math.nan, math.inf])
def test_a_rate_without_a_logarithm_is_left(found: float):
    built, _, _ = model("NVIB")
    assert calibrate(built, 30.0, lambda: found) == 0.0


def test_a_target_that_was_missed_by_far_stays_missed():
    built, source, mask = model("NVIB")

    def rate() -> float:
        return float(built.encode(source, mask).rate.mean())

    before = rate()
    assert calibrate(built, before / 20, rate) == LIMIT
    assert before / 20 < rate() < before
