"""The tracker: a failure of wandb loses no figure, and upload completes the page later."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models import MODELS
from pipeline.experiments import tracker as module
from pipeline.experiments.config import new_config, read_config, start_or_continue
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import tracking, upload
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_jsonl


@pytest.fixture
def files(tmp_path: Path) -> ExperimentFiles:
    files = ExperimentFiles.of(tmp_path, "nvib", "a")
    settings = MODELS["T"](vocabulary_size=9)
    start_or_continue(files, new_config(settings, TrainingSettings(), "tiny", {"fingerprint": "abc"}))
    return files


class Run:
    """A page that may fail or hang."""

    def __init__(self, failing: str = "", hanging: str = "") -> None:
        self.failing, self.hanging = failing, hanging
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.finished: list[int] = []
        self.url = "https://wandb.example/a"

    def _trouble(self, name: str) -> None:
        if name == self.failing:
            raise RuntimeError(f"{name} failed\nbadly")
        if name == self.hanging:
            time.sleep(60)

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._trouble("define")

    def log(self, row: dict[str, Any]) -> None:
        self._trouble("log")
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self._trouble("finish")
        self.finished.append(exit_code)


def use(monkeypatch: pytest.MonkeyPatch, run: Run | None) -> None:
    """Put a run in wandb's place; without one wandb is missing."""
    fake = None
    if run is not None:
        fake = SimpleNamespace(
            init=lambda **_: run,
            Settings=lambda **_: None,
            Histogram=lambda np_histogram: np_histogram,
            Table=lambda columns, data: [columns, data],
        )
    monkeypatch.setitem(sys.modules, "wandb", fake)


HISTOGRAMS = {"mu": {"counts": [1, 2], "edges": [0.0, 0.5, 1.0]}}


def log_all(files: ExperimentFiles) -> None:
    with tracking(files, read_config(files), None) as tracker:
        for epoch in (1, 2):
            tracker.log_epoch({"epoch": epoch, "loss": 2.0 / epoch}, HISTOGRAMS)
        tracker.summarise({"loss": 1.0})


def local(files: ExperimentFiles) -> tuple[list[float], float]:
    rows = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    return [row["loss"] for row in rows], json.loads(files.summary.read_text())["loss"]


@pytest.mark.parametrize("trouble", ["missing", "define", "log", "finish"])
def test_a_tracker_that_fails_costs_no_figure(files, monkeypatch, capsys, trouble: str):
    use(monkeypatch, None if trouble == "missing" else Run(failing=trouble))
    log_all(files)
    assert local(files) == ([2.0, 1.0], 1.0)
    reported = capsys.readouterr().err.strip().splitlines()
    assert len(reported) == 1
    assert reported[0].startswith("warning: wandb failed (")
    assert "upload.py" in reported[0]


def test_a_tracker_that_hangs_at_the_end_is_left_behind(files, monkeypatch, capsys):
    use(monkeypatch, Run(hanging="finish"))
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.2)
    started = time.monotonic()
    log_all(files)
    assert time.monotonic() - started < 10
    assert local(files) == ([2.0, 1.0], 1.0)
    assert "it had not ended after 0 s" in capsys.readouterr().err


def test_the_files_of_a_run_whose_page_failed_make_the_page(files, monkeypatch):
    use(monkeypatch, Run(failing="log"))
    log_all(files)
    write_jsonl(files.samples, [{"text": "a king", "drawn_length": 3}])
    run = Run()
    use(monkeypatch, run)
    assert upload(files, read_config(files), "someone") == run.url
    assert [row["loss"] for row in run.rows[:2]] == [2.0, 1.0]
    assert run.rows[0]["histograms/mu"] == ([1, 2], [0.0, 0.5, 1.0])
    assert run.rows[2]["tables/samples"] == [["text", "drawn_length"], [["a king", 3]]]
    assert run.summary == {"loss": 1.0}
    assert run.finished == [0]


def test_samples_that_were_edited_are_logged(files, monkeypatch):
    write_jsonl(files.samples, [{"text": "a king", "drawn_length": 3}, {"text": "mine", "stars": "5"}])
    run = Run()
    use(monkeypatch, run)
    upload(files, read_config(files), "someone")
    rows = [["a king", 3, None], ["mine", None, "5"]]
    assert run.rows == [{"tables/samples": [["text", "drawn_length", "stars"], rows]}]
    files.samples.write_text("")
    upload(files, read_config(files), "someone")
    assert len(run.rows) == 1


def test_a_run_that_could_not_be_written_anew_keeps_the_earlier_one(files, monkeypatch):
    use(monkeypatch, Run())
    log_all(files)
    earlier = files.wandb / "wandb" / "offline-run-1"
    earlier.mkdir(parents=True)
    use(monkeypatch, Run(failing="log"))
    with tracking(files, read_config(files), None):
        pass
    assert earlier.exists()
    use(monkeypatch, Run())
    with tracking(files, read_config(files), None):
        pass
    assert not earlier.exists()


def test_an_upload_that_fails_is_one_line(files, monkeypatch):
    use(monkeypatch, Run(failing="finish"))
    with pytest.raises(UserError, match=r"wandb did not take the experiment \(finish failed badly\)"):
        upload(files, read_config(files), "someone")
