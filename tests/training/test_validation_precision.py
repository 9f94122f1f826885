"""Validation while a model around a pretrained one trains computes in the precision of the training."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from models.text_model import TextModel
from pipeline.data.dataset import load_prepared
from pipeline.training import collapse, validation
from tests.helpers import prepare_tiny
from tests.training.test_trainer import trainer

AROUND = cast(TextModel, SimpleNamespace(settings=SimpleNamespace(pretrained="base")))


def test_a_pretrained_model_computes_in_the_precision_that_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "precision", lambda wanted: "bf16" if wanted == "auto" else wanted)
    device, ones = torch.device("cpu"), torch.ones(2, 2)
    for wanted, dtype in (("auto", torch.bfloat16), ("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with validation.scoring(AROUND, device, wanted):
            assert (ones @ ones).dtype == dtype


def test_every_evaluation_of_a_training_has_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, ...]] = []
    scoring = validation.scoring

    def recorded(model: TextModel, device: torch.device, *wanted: str) -> torch.autocast:
        asked.append(wanted)
        return scoring(model, device, *wanted)

    monkeypatch.setattr(validation, "scoring", recorded)
    monkeypatch.setattr(collapse, "scoring", recorded)
    prepare_tiny(tmp_path / "data", count=100)
    evaluator = trainer(load_prepared(tmp_path / "data", "tiny"), tmp_path / "run").evaluator
    evaluator.evaluate()
    evaluator.check()
    assert asked == [("fp32",)] * 3
