"""Rows of a table that are drawn again in place of copies, beside those that are kept."""

from pathlib import Path
from typing import Any

import pytest

from models.sampling import SamplingSettings
from pipeline import load_experiment
from pipeline.experiments.load import Experiment
from pipeline.generation.known_texts import KnownTexts
from pipeline.generation.novel_samples import draw_again
from pipeline.generation.sampler import sample_with
from tests.data.own_files import places, write_rows
from tests.helpers import call

pytestmark = pytest.mark.slow  # prepares and trains

LONG = "the old king saw a cat and the dog there"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A barely trained model of rows with short identifiers, half of which have the words of `LONG`."""
    folder = tmp_path_factory.mktemp("rows")
    rows: list[dict[str, Any]] = [
        {"id": f"{number % 10}-{number * 7 % 100:02}", "size": number * 13 % 1000, "note": (LONG, "short")[number % 2]}
        for number in range(120)
    ]
    path = write_rows(folder / "own.csv", rows)
    call("prepareDatasets.py", "--DATA", path, "--ROW_TEMPLATE", "--DATA_DIR", folder / "data")
    small = ("--DIM_H", 16, "--MAX_STEPS", 2, "--BATCH_SIZE", 16)
    call("train.py", "--EXPERIMENT_NAME", "lm", "--MODEL", "LM", "--DATA", "own", *small, *places(folder))
    return load_experiment(next((folder / "outputs").glob("*/lm")), data_dir=folder / "data").experiment


def values(experiment: Experiment, rows: list[dict[str, Any]], name: str) -> list[str]:
    """Return the values of a column."""
    tokenizer: Any = experiment.data.tokenizer
    return [tokenizer.template.values(row["text"])[name] for row in rows]


def test_no_row_that_is_drawn_again_has_an_identifier_or_a_key_of_a_kept_one(experiment: Experiment, tmp_path: Path):
    (tmp_path / "keys.json").write_text('{"unique": "size"}')
    settings = SamplingSettings(
        number_samples=150, decoding="sample", novel=True, constraints=str(tmp_path / "keys.json")
    )
    first = sample_with(experiment, settings, 50)
    novel = draw_again(experiment, settings, 50, first, KnownTexts([LONG]))
    kept = [one for one, other in zip(first, novel.rows, strict=True) if one == other]
    assert novel.redrawn > 30
    assert len(kept) > 30
    for rows in (first, novel.rows):
        assert len(set(values(experiment, rows, "id"))) == 150
        assert len(set(values(experiment, rows, "size"))) == 150
