"""The loss that chooses the best epoch: under control, and where training shows draws of the prior."""

import math

import pytest

from models import MODELS
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.training.best_epoch import compared_loss
from pipeline.training.rate_control import OCTAVE, RateControl

PLAIN = MODELS["NVIB"](vocabulary_size=10, dim_h=16)
DRAWS = MODELS["NVIB"](vocabulary_size=10, dim_h=16, prior_texts=0.25)
VALIDATION = {"loss": 3.0, "cross_entropy": 1.0, "perplexity_prior_latent": math.exp(5.0)}


def controlled(patience: int, first_rate: float = 60.0) -> RateControl:
    control = RateControl(TrainingSettings(target_rate=30.0, patience=patience), PLAIN, 100_000)
    control.state.started, control.state.first_rate = 50, first_rate
    return control


def test_a_free_run_compares_its_validation_loss():
    control = RateControl(TrainingSettings(), PLAIN, 1000)
    assert compared_loss(VALIDATION, PLAIN, control, 10, -1) == 3.0
    assert compared_loss(VALIDATION, DRAWS, control, 10, -1) == pytest.approx(0.75 * 3.0 + 0.25 * 5.0)


def test_a_controlled_run_compares_cross_entropies_once_the_target_no_longer_falls():
    control = controlled(patience=2)
    assert compared_loss(VALIDATION, PLAIN, control, 50 + OCTAVE - 1, 2) is None
    assert compared_loss(VALIDATION, PLAIN, control, 50 + OCTAVE, 2) == 1.0
    assert control.target_rate(50 + OCTAVE) == pytest.approx(30.0)
    assert compared_loss(VALIDATION, DRAWS, control, 50 + OCTAVE, 2) == pytest.approx(0.75 + 0.25 * 5.0)
    near = controlled(patience=2, first_rate=20.0)
    assert compared_loss(VALIDATION, PLAIN, near, 51, 2) == 1.0


@pytest.mark.parametrize(("rate", "charged"), [(30.0, 0.0), (31.4, 0.0), (28.6, 0.0), (37.5, 0.174), (24.0, 0.174)])
def test_an_epoch_beside_its_target_is_charged_for_it(rate: float, charged: float):
    found = VALIDATION | {"rate": rate}
    loss = compared_loss(found, PLAIN, controlled(patience=2), 50 + OCTAVE, 2)
    assert loss == pytest.approx(1.0 + charged, abs=1e-3)
    free = RateControl(TrainingSettings(), PLAIN, 1000)
    assert compared_loss(found, PLAIN, free, 10, 2) == 3.0


def test_without_patience_a_controlled_run_ends_with_its_last_epoch():
    control = controlled(patience=-1)
    assert compared_loss(VALIDATION, PLAIN, control, 99_999, -1) is None
    assert not control.settled(50 + OCTAVE)
    assert control.settled(99_999)
