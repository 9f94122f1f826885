"""Real processes are ended at random moments: the same command continues, and ends with the same numbers."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pipeline.data.dataset import load_prepared
from pipeline.runtime.signals import Interrupted, deferred, ignore_signals
from tests.helpers import ROOT, prepare_tiny, text
from tests.zygote import zygote

CLOCKS = {"seconds", "tokens_per_second", "checksum"}  # times differ, and with them the checksum of a line


def run_forked(
    log: Path,
    arguments: list[Any],
    number: int | None = None,
    after: float = 0.0,
    room: int | None = None,
    when: str = "",
) -> tuple[int, str]:
    """Run a script in a process of its own, and perhaps end it with a signal.

    Args:
        log: file for the output.
        arguments: script and flags.
        number: signal, or None.
        after: seconds from the start, or from the moment when the output holds `when`, to the signal.
        room: size limit of a file that the process writes, in bytes, or None.
        when: text that the signal waits for.

    Returns:
        The exit status (negative: the signal that ended the process), and the output.
    """
    log.unlink(missing_ok=True)
    pid = zygote().start([ROOT / arguments[0], *arguments[1:]], log, room=room, tracker=False)
    if number is not None:
        while when and when not in read_output(log):
            assert Path(f"/proc/{pid}/cmdline").read_text(), (
                f"it ended without {when!r}: {read_output(log)}"
            )  # a zombie's
            time.sleep(0.01)
        time.sleep(after)
        os.kill(pid, number)  # the process id stays taken until `wait`
    return zygote().wait(pid), read_output(log)


def read_output(log: Path) -> str:
    """Output of a process so far."""
    return log.read_text(errors="replace") if log.exists() else ""


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run_script(tmp_path_factory) -> Run:
    """`run_forked` with a log file."""
    return functools.partial(run_forked, tmp_path_factory.mktemp("log") / "log")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare_tiny(folder)
    return folder


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1]


def training(outputs: Path, data_dir: Path, *flags: Any) -> list[Any]:
    places = ["--OUTPUT_DIR", outputs, "--DATA_DIR", data_dir, "--DATA", "tiny", "--EXPERIMENT_NAME", "a"]
    small = ["--MODEL", "NVIB", "--DIM_H", 16, "--BATCH_SIZE", 16, "--EPOCHS", 10, "--SAVE_STEPS", 2]
    return ["train.py", *places, *small, "--PRECISION", "fp32", *flags]


def epochs(outputs: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (outputs / "nvib" / "a" / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def summary(outputs: Path) -> dict[str, Any]:
    return json.loads((outputs / "nvib" / "a" / "summary.json").read_text())


KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, "disk")


@pytest.mark.slow
def test_a_run_that_is_ended_thirty_times_has_the_numbers_of_an_uninterrupted_run(
    run_script: Run, data_dir: Path, tmp_path: Path
):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    started = time.monotonic()
    status, said = run_script(training(whole, data_dir))
    assert status == 0, said
    usual = time.monotonic() - started
    checkpoint = (whole / "nvib" / "a" / "latest.safetensors").stat().st_size
    draw, count, met, longest = random.Random(1), 0, dict.fromkeys(KINDS, 0), usual / 4
    while count < 32:
        kind = KINDS[count % 4]
        if kind == "disk":
            status, said = run_script(training(ended, data_dir), room=draw.randrange(checkpoint))
            assert status == 2, said
            assert "make room; the same command continues" in last_line(said)
        else:
            status, said = run_script(training(ended, data_dir), kind, after=draw.uniform(0.05, longest))
            assert status in (0, -kind, 128 + kind), said
        met[kind] += status != 0
        assert "Traceback" not in said
        count += 1
        if count < 30 and (ended / "nvib" / "a" / "summary.json").exists():
            # The training completed early, since the machine was slower at the start: once more, in shorter parts.
            shutil.rmtree(ended)
            count, met, longest = 0, dict.fromkeys(KINDS, 0), longest / 2
            assert longest > 0.05
    assert sum(met.values()) >= 25, met
    status, said = run_script(training(ended, data_dir))
    assert status == 0, said
    assert epochs(ended) == epochs(whole)
    assert summary(ended) == summary(whole)
    for name in ("latest.safetensors", "best.safetensors"):
        a, b = (load_file(outputs / "nvib" / "a" / name) for outputs in (whole, ended))
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_last_step_and_the_message_says_how_to_continue(
    run_script: Run, data_dir: Path, tmp_path: Path, number: int
):
    flags = ("--SAVE_STEPS", 10**6, "--EPOCHS", 300)
    status, said = run_script(training(tmp_path, data_dir, *flags), number, after=0.5, when="batch/s")
    assert status == 128 + number, said
    reported = last_line(said)
    assert "of 4500, which is saved; the same command continues there" in reported
    step = int(reported.split("after step ")[1].split()[0])
    status, said = run_script(training(tmp_path, data_dir, *flags), number, when="continuing")
    assert f"continuing after step {step} of 4500" in said


@pytest.mark.slow
def test_measurements_are_complete_or_absent_and_the_same_after_an_end_at_any_moment(
    run_script: Run, data_dir: Path, tmp_path: Path
):
    whole = tmp_path / "whole"
    assert run_script(training(whole, data_dir, "--EPOCHS", 1))[0] == 0
    judge = ("--MODEL", "LM", "--EXPERIMENT_NAME", "lm", "--EPOCHS", 1)
    assert run_script(training(whole, data_dir, *judge))[0] == 0
    ended = tmp_path / "ended"
    shutil.copytree(whole, ended)
    draw, met = random.Random(2), 0
    for script, *flags in (
        ("sample.py", "--NUMBER_SAMPLES", 300),
        ("reconstruction.py", "--DATA_SUBSET", "test"),
        ("interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True"),
        ("regularisation.py",),
        ("forwardSampleEvaluation.py", "--LANGUAGE_MODEL", "lm"),
        ("reverseSampleEvaluation.py", "--LANGUAGE_MODEL", "lm"),
    ):
        command = [script, "--EXPERIMENT_NAME", "a", *flags, "--DATA_DIR", data_dir, "--OUTPUT_DIR"]
        started = time.monotonic()
        status, said = run_script([*command, whole])
        assert status == 0, said
        usual = time.monotonic() - started
        for kind in KINDS:
            room, number = (draw.randrange(2000), None) if kind == "disk" else (None, kind)
            status, said = run_script([*command, ended], number, after=draw.uniform(0.02, max(0.03, usual)), room=room)
            assert status in (0, 2 if number is None else -number, 128 + (number or 0)), said
            assert "Traceback" not in said
            met += status != 0
            if status == 0:  # it completed: the machine was slower at the start, or more was done already
                usual /= 2
        assert run_script([*command, ended])[0] == 0
    assert met >= 12
    for path in (whole / "nvib").glob("*/*.jsonl"):
        if path.name != "metrics.jsonl":
            assert path.read_bytes() == (ended / path.relative_to(whole)).read_bytes(), path
    assert summary(ended) == summary(whole)


@pytest.mark.slow
def test_an_ended_preparation_leaves_the_earlier_data_and_the_next_one_completes(run_script: Run, tmp_path: Path):
    texts = [tmp_path / name / "own.txt" for name in ("first", "second")]
    for seed, path in enumerate(texts):
        path.parent.mkdir()
        path.write_text(text(400, seed))

    def prepare(data_dir: Path, path: Path) -> list[Any]:
        return ["prepareDatasets.py", "--DATA", path, "--DATA_DIR", data_dir, "--VOCAB_SIZE", 200]

    whole, ended = tmp_path / "whole", tmp_path / "ended"
    started = time.monotonic()
    status, said = run_script(prepare(whole, texts[1]))
    assert status == 0, said
    usual = time.monotonic() - started
    assert run_script(prepare(ended, texts[0]))[0] == 0
    first, second = (load_prepared(folder, "own").fingerprint for folder in (ended, whole))
    draw = random.Random(3)
    for kind in (*KINDS, *KINDS):
        room, number = (draw.randrange(20_000), None) if kind == "disk" else (None, kind)
        status, said = run_script(prepare(ended, texts[1]), number, after=draw.uniform(0.02, usual), room=room)
        assert status in (0, 2 if number is None else -number, 128 + (number or 0)), said
        assert "Traceback" not in said, said
        if status == 0:
            break
        if (ended / "own").exists():  # between two renames it is absent, and the next preparation restores it
            # A process that is ended after its last rename leaves the new data, whole.
            assert load_prepared(ended, "own").fingerprint in (first, second)
    status, said = run_script(prepare(ended, texts[1]))
    assert status == 0, said
    assert load_prepared(ended, "own").fingerprint == second != first
    assert [path.name for path in ended.iterdir()] == ["own"]


@pytest.mark.slow
def test_a_killed_preparation_leaves_no_worker_behind(tmp_path: Path):
    source = tmp_path / "own.txt"
    source.write_text(text(60_000))
    command = [sys.executable, ROOT / "prepareDatasets.py", "--DATA", source, "--DATA_DIR", tmp_path / "data"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers: set[int] = set()
    deadline = time.monotonic() + 60
    while len(workers) < 3:  # and the process of their queue
        assert process.poll() is None and time.monotonic() < deadline, "it had no workers"
        workers |= set(children(process.pid))
        time.sleep(0.02)
    time.sleep(0.5)  # the workers have begun
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while left := [pid for pid in workers if "prepareDatasets" in command_line(pid)]:  # no zombie has any
        assert time.monotonic() < deadline, f"{left} live on"
        time.sleep(0.1)


def test_a_worker_prints_nothing_when_its_pool_ends_it(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, time\n"
        "from pipeline.runtime.signals import end_forks_with_parent, raise_on_signals\n"
        "raise_on_signals()\n"
        "end_forks_with_parent()\n"
        "ready, reported = os.pipe()\n"
        "worker = os.fork()\n"
        "if not worker:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    os.write(reported, b'on')\n"
        "    time.sleep(30)\n"
        "assert os.read(ready, 2) == b'on'\n"
        "os.kill(worker, signal.SIGTERM)\n"
        "assert os.WTERMSIG(os.waitpid(worker, 0)[1]) == signal.SIGTERM\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def sigint_handled() -> Iterator[None]:
    """SIGINT is handled, although a shell ignores it in background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_first_signal_is_deferred_and_a_second_one_raises(sigint_handled: None):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), deferred() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(Interrupted), deferred() as stop, stop.at_once():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before
    with deferred():
        ignore_signals()
    signal.raise_signal(signal.SIGTERM)  # signals that were ignored inside stay ignored
    signal.signal(signal.SIGTERM, before)


def test_a_signal_in_a_finalizer_is_sent_again(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, time\n"
        "from pipeline.cli import entry, parser\n"
        "class Finalized:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0)\n"
        "def main():\n"
        "    Finalized()\n"
        "    time.sleep(30)\n"
        "entry.run(main)\n"
    )
    ended = subprocess.run(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 143
    assert ended.stderr == "script.py: interrupted; the same command continues\n"
