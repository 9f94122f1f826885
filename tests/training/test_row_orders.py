"""Rows of a table in training: the columns of each row come in a new order in each epoch, those of validation stay."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from models import MODELS, build
from pipeline.data.dataset import load_prepared
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.training import evaluator
from pipeline.training.trainer import Trainer
from tests.helpers import call, one_precision_again

pytestmark = pytest.mark.slow  # three trainings
ROWS, EPOCHS = 150, 4


def orders_seen(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Train, and return the order of the columns of each row that the model got, by split; one mapping for an epoch."""
    one_precision_again()
    data = load_prepared(folder / "data", "rows")
    tokenizer = data.tokenizer
    assert isinstance(tokenizer, RowTokenizer)
    seen: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    load = evaluator.loader

    def recorded(sentences: Any, *rest: Any) -> Any:
        split = next(name for name in seen if data.splits[name] is sentences)
        seen[split].append({})
        for batch in load(sentences, *rest):
            for ids in batch.source.tolist():
                order = tuple(marker for marker, _ in tokenizer.parts(ids))
                seen[split][-1][tokenizer.decode(ids)] = order
            yield batch

    monkeypatch.setattr(evaluator, "loader", recorded)
    torch.manual_seed(0)
    files = ExperimentFiles(folder / f"run-{seed}")
    settings = TrainingSettings(batch_size=32, precision="fp32", epochs=EPOCHS, seed=seed)
    model = build(MODELS["LM"](vocabulary_size=tokenizer.vocabulary_size, dim_h=16))
    Trainer(model, data, settings, files, Tracker(files, run=None, offline=True)).train()
    monkeypatch.undo()
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    lines = (f"{n},{'abc'[n % 3]},{n % 7}\n" for n in range(ROWS))
    (folder / "rows.csv").write_text("number,kind,day\n" + "".join(lines))
    call("prepareDatasets.py", "--DATA", folder / "rows.csv", "--ROW_TEMPLATE", "--DATA_DIR", folder / "data")
    return folder


def test_columns_come_in_a_new_order_in_each_epoch_and_the_seed_decides(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen = orders_seen(folder, monkeypatch, 1)["train"]
    assert len(seen) == EPOCHS
    rows = set(seen[0])
    assert len(rows) > 100
    assert all(set(epoch) == rows for epoch in seen)
    assert len({order for epoch in seen for order in epoch.values()}) == 6  # of three columns
    for first, second in pairwise(seen):
        same = sum(first[row] == second[row] for row in rows) / len(rows)
        assert same < 0.4  # by chance a sixth
    assert orders_seen(folder, monkeypatch, 1)["train"] == seen
    assert orders_seen(folder, monkeypatch, 2)["train"] != seen


def test_validation_has_the_same_orders_in_each_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen = [epoch for epoch in orders_seen(folder, monkeypatch, 1)["validation"] if epoch]
    assert len(seen) >= EPOCHS
    longest = max(map(len, seen))
    assert all(epoch == seen[0] for epoch in seen if len(epoch) == longest)
    assert len(set(seen[0].values())) > 1
