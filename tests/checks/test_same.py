"""The comparison of `make same`: it finds each planted difference, and takes no time for one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from checks.same import differences, results
from pipeline.experiments.weights import save_checkpoint

SUMMARY = {"validation/perplexity": 7.25, "seconds": 3.5, "versions": {"torch": "2"}, "interpolation": [0.5, 0.25]}
EPOCHS = [{"epoch": 1, "train/loss": 3.0, "tokens_per_second": 900.0}, {"epoch": 2, "train/loss": 2.5}]
EXPERIMENT = Path("outputs/same/nvib")


def write_run(folder: Path) -> None:
    """Write one file of each kind that a run leaves."""
    experiment = folder / EXPERIMENT
    (experiment / "wandb").mkdir(parents=True)
    (experiment / "summary.json").write_text(json.dumps(SUMMARY))
    (experiment / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in EPOCHS))
    (experiment / "samples.txt").write_text("the old king\na river\n")
    save_checkpoint(experiment / "best.safetensors", {"weight": torch.ones(3)}, {"step": 1})
    (experiment / "latest.safetensors").write_bytes(b"state with times")
    (experiment / "wandb" / "run.json").write_text('{"loss": 1}')
    (experiment / "plot.png").write_bytes(b"no figure")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same results."""
    for name in ("before", "now"):
        write_run(tmp_path / name)
    return tmp_path / "before", tmp_path / "now"


def found(runs: tuple[Path, Path]) -> list[str]:
    return differences(*map(results, runs))


def changed(path: Path, **values: Any) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_equal_runs_have_no_difference_and_every_result_is_read(runs: tuple[Path, Path]):
    assert found(runs) == []
    read = {name: value for name, value in results(runs[0]).items() if "best.safetensors" not in name}
    assert read == {
        f"{EXPERIMENT}/summary.json: validation/perplexity": 7.25,
        f"{EXPERIMENT}/summary.json: interpolation[0]": 0.5,
        f"{EXPERIMENT}/summary.json: interpolation[1]": 0.25,
        f"{EXPERIMENT}/metrics.jsonl, line 1: epoch": 1,
        f"{EXPERIMENT}/metrics.jsonl, line 1: train/loss": 3.0,
        f"{EXPERIMENT}/metrics.jsonl, line 2: epoch": 2,
        f"{EXPERIMENT}/metrics.jsonl, line 2: train/loss": 2.5,
        f"{EXPERIMENT}/samples.txt, line 1": "the old king",
        f"{EXPERIMENT}/samples.txt, line 2": "a river",
        f"{EXPERIMENT}/samples.txt, line 3": "",
    }


def test_a_changed_figure_is_named_with_both_values(runs: tuple[Path, Path]):
    changed(runs[1] / EXPERIMENT / "summary.json", **{"validation/perplexity": 7.250000000000001})
    assert found(runs) == [f"{EXPERIMENT}/summary.json: validation/perplexity was 7.25, is 7.250000000000001"]


def test_a_number_that_became_an_integer_is_a_difference(runs: tuple[Path, Path]):
    path = runs[1] / EXPERIMENT / "metrics.jsonl"
    path.write_text(path.read_text().replace("3.0", "3"))
    assert found(runs) == [f"{EXPERIMENT}/metrics.jsonl, line 1: train/loss was 3.0, is 3"]


def test_a_missing_file_is_named_by_each_of_its_results(runs: tuple[Path, Path]):
    (runs[1] / EXPERIMENT / "summary.json").unlink()
    assert found(runs) == [
        f"{EXPERIMENT}/summary.json: validation/perplexity is missing (was 7.25)",
        f"{EXPERIMENT}/summary.json: interpolation[0] is missing (was 0.5)",
        f"{EXPERIMENT}/summary.json: interpolation[1] is missing (was 0.25)",
    ]


def test_a_new_line_is_named(runs: tuple[Path, Path]):
    with (runs[1] / EXPERIMENT / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3}\n')
    assert found(runs) == [f"{EXPERIMENT}/metrics.jsonl, line 3: epoch is new (3)"]


def test_a_new_line_of_text_is_named(runs: tuple[Path, Path]):
    with (runs[1] / EXPERIMENT / "samples.txt").open("a") as file:
        file.write("a house\n")
    assert found(runs) == [
        f"{EXPERIMENT}/samples.txt, line 3 was '', is 'a house'",
        f"{EXPERIMENT}/samples.txt, line 4 is new ('')",
    ]


def test_one_changed_bit_of_a_weight_is_found(runs: tuple[Path, Path]):
    weight = torch.ones(3)
    weight[1] = torch.nextafter(weight[1], torch.tensor(2.0))
    save_checkpoint(runs[1] / EXPERIMENT / "best.safetensors", {"weight": weight}, {"step": 1})
    (line,) = found(runs)
    assert line.startswith(f"{EXPERIMENT}/best.safetensors: sha256 was ")


def test_one_changed_byte_of_a_parquet_file_is_found(runs: tuple[Path, Path]):
    for folder, content in zip(runs, (b"rows a", b"rows b"), strict=True):
        (folder / "samples.parquet").write_bytes(content)
    (line,) = found(runs)
    assert line.startswith("samples.parquet was ")


def test_times_versions_resumable_state_and_plots_are_left_out(runs: tuple[Path, Path]):
    experiment = runs[1] / EXPERIMENT
    changed(experiment / "summary.json", seconds=9.0, versions={"torch": "3"}, commit="abc")
    rows = [{**row, "tokens_per_second": 1.0, "seconds": 2.0} for row in EPOCHS]
    (experiment / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (experiment / "latest.safetensors").write_bytes(b"other times")
    (experiment / "wandb" / "run.json").write_text('{"loss": 2}')
    (experiment / "plot.png").write_bytes(b"another figure")
    assert found(runs) == []


def test_prose_is_left_out_of_the_quality_figures_alone(runs: tuple[Path, Path]):
    for folder, note in zip(runs, ("one", "another"), strict=True):
        for name in ("quality.json", "other.json"):
            (folder / name).write_text(json.dumps({"notes": note, "mauve": 0.5}))
    assert found(runs) == ["other.json: notes was 'one', is 'another'"]
