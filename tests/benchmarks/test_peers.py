"""Pieces of the comparison with other generators that need none of them: splits, figures, steps, the page."""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from pipeline.runtime.errors import UserError


def write_table(path: Path, count: int, seed: int = 0) -> None:
    """Write rows of a number, a category that follows from it, and a date."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "weather", "date"])
        for _ in range(count):
            size = round(float(rng.normal(50, 10)), 1)
            writer.writerow(
                [size, "sun" if size > 50 else "rain", f"2020-0{rng.integers(1, 10)}-1{rng.integers(0, 10)}"]
            )


def test_a_split_is_a_partition_that_depends_on_the_seed(tmp_path: Path):
    write_table(tmp_path / "all.csv", 101)
    for seed in (1, 2):
        peers.write_splits(tmp_path / "all.csv", tmp_path / str(seed), seed)
    rows = [tuple(row.values()) for row in peers.read_rows(tmp_path / "all.csv")]
    parts = {
        seed: {
            name: [tuple(row.values()) for row in peers.read_rows(tmp_path / str(seed) / f"{name}.csv")]
            for name in ("train", "test")
        }
        for seed in (1, 2)
    }
    for part in parts.values():
        assert sorted(part["train"] + part["test"]) == sorted(rows)
        assert len(part["test"]) == 20
    assert parts[1]["test"] != parts[2]["test"]


def test_invalid_rows_are_counted_and_equal_rows_score_well(tmp_path: Path):
    write_table(tmp_path / "all.csv", 300)
    peers.write_splits(tmp_path / "all.csv", tmp_path, 1)
    write_table(tmp_path / "synthetic.csv", 240, seed=1)
    found = peers.measured(tmp_path, "weather", 1)
    assert found["figures"]["table_shapes"] > 0.85
    assert found["figures"]["table_efficacy"] > 0.95
    text = (tmp_path / "synthetic.csv").read_text().splitlines()
    text[1:61] = ["999,hail,never"] * 60
    (tmp_path / "synthetic.csv").write_text("\n".join(text) + "\n")
    worse = peers.measured(tmp_path, "weather", 1)
    assert worse["valid"] == pytest.approx(found["valid"] - 60 / 240, abs=0.05)
    assert worse["figures"]["table_shapes"] < found["figures"]["table_shapes"]


def test_a_peer_that_fails_is_a_result_with_its_reason_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_table(tmp_path / "tables" / "weather.csv", 60)
    calls = []

    def fail(peer: str, own: Path, *rest: Any) -> None:
        calls.append(peer)
        raise UserError("pip cannot install it")

    monkeypatch.setattr(peers, "environment", lambda folder, packages: Path("/bin/false"))
    monkeypatch.setattr(peers, "_peer", fail)
    for _ in range(2):
        assert peers.step(tmp_path, "tvae", "weather", 1, 1.0)["failed"] == "pip cannot install it"
    assert calls == ["tvae", "tvae"]


def test_a_finished_step_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_table(tmp_path / "tables" / "weather.csv", 120)
    calls = []

    def copy(peer: str, own: Path, *rest: Any) -> None:
        calls.append(peer)
        (own / "synthetic.csv").write_bytes((own / "train.csv").read_bytes())

    monkeypatch.setattr(peers, "environment", lambda folder, packages: Path("/bin/false"))
    monkeypatch.setattr(peers, "_peer", copy)
    first = peers.step(tmp_path, "ctgan", "weather", 1, 1.0)
    assert first["figures"]["table_copies"] == 1
    assert json.loads(json.dumps(peers.step(tmp_path, "ctgan", "weather", 1, 1.0))) == json.loads(json.dumps(first))
    assert calls == ["ctgan"]


def fake_python(path: Path, script: str) -> Path:
    """Write an executable that takes the place of a peer's python; `$3` is train.csv and `$4` synthetic.csv."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_driver_that_ends_with_an_error_is_named_with_its_last_line(tmp_path: Path):
    python = fake_python(tmp_path / "python", "echo 'first' >&2; echo 'ValueError: no rows' >&2; exit 3")
    with pytest.raises(UserError, match="tvae ended with status 3: ValueError: no rows"):
        peers._peer("tvae", tmp_path, python, 3, 1, 1.0)


def test_a_driver_leaves_its_checkpoints_in_no_folder_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    (tmp_path / "train.csv").write_text("size\n1\n")
    python = fake_python(tmp_path / "python", 'mkdir checkpoints && pwd >"$4.place" && cp "$3" "$4"')
    peers._peer("realtabformer", tmp_path, python, 1, 1, 1.0)
    assert (tmp_path / "synthetic.csv").read_text() == "size\n1\n"
    assert not list(place.iterdir())
    assert not Path((tmp_path / "synthetic.csv.place").read_text().strip()).exists()


def test_an_environment_that_pip_cannot_make_is_a_failed_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(folder: Path, packages: Any) -> Path:
        raise UserError("pip cannot install sdv: no wheel")

    write_table(tmp_path / "tables" / "weather.csv", 60)
    monkeypatch.setattr(peers, "environment", refuse)
    assert peers.step(tmp_path, "tvae", "weather", 1, 1.0)["failed"] == "pip cannot install sdv: no wheel"


def test_packages_that_an_environment_cannot_import_are_removed_after_its_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[list[str]] = []

    def pretend(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (tmp_path / "environments" / "mostlyai").mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pretend)
    for _ in range(2):
        peers.environment(tmp_path, peers.PACKAGES["mostlyai"])
    assert [command[1] for command in calls] == ["-m", "install", "uninstall"], "once"
    assert calls[2][-2:] == ["torchvision", "torchaudio"]


def test_a_peer_whose_rows_take_seconds_writes_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_table(tmp_path / "tables" / "weather.csv", 120)
    asked: dict[str, int] = {}

    def copy(peer: str, own: Path, python: Path, rows: int, *rest: Any) -> None:
        asked[peer] = rows
        (own / "synthetic.csv").write_bytes((own / "train.csv").read_bytes())

    monkeypatch.setattr(peers, "environment", lambda folder, packages: Path("/bin/false"))
    monkeypatch.setattr(peers, "_peer", copy)
    monkeypatch.setattr(peers, "MOST_ROWS", {"be_great": 40})
    for peer in ("be_great", "ctgan"):
        peers.step(tmp_path, peer, "weather", 1, 1.0)
    assert asked == {"be_great": 40, "ctgan": 96}


def result(peer: str, name: str, shapes: float, seed: int = 1, **more: Any) -> dict[str, Any]:
    """Return a result with these figures."""
    figures = {"table_shapes": shapes, "table_trends": 0.9, "table_detection": 0.5, "table_efficacy": 0.8}
    known = {"peer": peer, "table": name, "seed": seed, "minutes": 2.0, "valid": 1.0, "seconds": 60.0}
    return known | {"figures": figures | {"table_copies": 0.0}, "held_out": figures | {"table_copies": 0.0}} | more


def test_the_page_has_errors_spread_and_the_reason_of_a_failure():
    found = [
        result("LM", "fair", 0.98),
        result("LM", "fair", 0.96, 2),
        result("tvae", "fair", 0.9),
        {
            "peer": "be_great",
            "table": "fair",
            "seed": 1,
            "minutes": 2.0,
            "failed": "pip cannot install be_great: no wheel",
        },
    ]
    shown = peers.written(found)
    assert "| LM | 2 | 2 | 3.00 ± 1.41 | 10.00 ± 0.00 |" in shown
    assert "| tvae | 1 | 2 | 10.00 | 10.00 |" in shown
    assert "failed: pip cannot install be_great" in shown
    assert "| be_great | not on fair |" in shown
    assert "held-out rows" in shown


def test_the_mean_over_the_tables_has_the_seeds_that_all_tables_have():
    one, two = result("LM", "fair", 0.98), result("LM", "weather", 0.94)
    three, four = result("LM", "fair", 0.96, 2), result("LM", "weather", 0.96, 2)
    shown = peers.written([one, two, three, four, result("LM", "fair", 0.5, 3), result("tvae", "fair", 0.9)])
    mean = shown.split("**fair")[0]
    assert "| LM | 2 | 2 | 4.00 ± 0.00 |" in mean
    assert "| tvae | not on weather |" in mean


def test_runs_of_other_minutes_are_rows_of_their_own():
    shown = peers.written([result("LM", "fair", 0.98), result("LM", "fair", 0.9, minutes=5.0)])
    assert "| LM | 1 | 2 | 2.00 |" in shown
    assert "| LM | 1 | 5 | 10.00 |" in shown


def test_two_processes_keep_the_results_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "RESULTS", tmp_path / "peers.json")
    monkeypatch.setattr(peers, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("before\n<!-- table: peers -->\nold\n<!-- end -->\nbehind\n")
    peers.keep("fair LM 1", result("LM", "fair", 0.98))
    peers.keep("fair tvae 1", result("tvae", "fair", 0.9))  # knows nothing of the first
    page = (tmp_path / "page.md").read_text()
    assert "| LM | 1 |" in page
    assert "| tvae | 1 |" in page
    assert page.startswith("before\n")
    assert page.endswith("behind\n")
    assert "old" not in page
