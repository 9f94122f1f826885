"""Tiny prepared data, and scripts run as processes."""

import contextlib
import io
import os
import runpy
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource

ROOT = Path(__file__).parent.parent
RECIPES = ("demo", "synth", "paper")  # run as `python -m pipeline NAME`
WORDS = ("the", "a", "old", "young", "king", "queen", "cat", "dog", "house", "river", "town", "saw", "found", "left")


def text(count: int, seed: int = 0) -> str:
    """So many short sentences, a document a line."""
    import random

    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(WORDS, k=draw.randint(6, 14))) + " .\n" for _ in range(count))


def prepare_tiny(data_dir: Path, name: str = "tiny", count: int = 300) -> None:
    """Prepare a tiny dataset in this process."""
    source = data_dir / f"{name}.txt"
    data_dir.mkdir(parents=True, exist_ok=True)
    source.write_text(text(count))
    settings = PreparationSettings("wordpiece", 200, "paper", more_than=5, fewer_than=50)
    prepare(TextSource(str(source), Split(0.1, 0.1, 0)), name, data_dir, settings)


def train_tiny(folder: Path, name: str, model: str, steps: int = 100) -> None:
    """Train an experiment on tiny data, in this process: enough for different texts, not for good ones."""
    import torch

    from models import MODELS, build
    from pipeline.data.dataset import load_prepared
    from pipeline.experiments.config import new_config, start_or_continue
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import Tracker
    from pipeline.experiments.training_settings import TrainingSettings
    from pipeline.training.trainer import Trainer

    one_precision_again()
    data = load_prepared(folder / "data", "tiny")
    settings = MODELS[model](vocabulary_size=data.tokenizer.vocabulary_size, dim_h=32, num_heads=2, dropout=0.0)
    training = TrainingSettings(
        batch_size=16, max_steps=steps, learning_rate=0.01, gradient_clip=1.0, save_steps=1000, precision="fp32"
    )
    files = ExperimentFiles.of(folder / "outputs", "nvib", name)
    start_or_continue(files, new_config(settings, training, "tiny", data.identity))
    torch.manual_seed(0)
    tracker = Tracker(files, run=None, offline=True)
    tracker.summarise(Trainer(build(settings), data, training, files, tracker).train())


def launcher(processes: int, sharded: bool = False, accelerate: bool = False) -> list[object]:
    """What starts a script in several processes: torchrun, or accelerate launch where they hold a model together."""
    if accelerate:
        settings = ("--multi_gpu", "--main_process_port", 0)  # on CPUs, too
        return ["-m", "accelerate.commands.launch", *settings, "--num_processes", processes]
    if sharded:
        settings = ("--config_file", ROOT / "configs" / "fsdp.yaml", "--main_process_port", 0)
        return ["-m", "accelerate.commands.launch", *settings, "--num_processes", processes]
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []


def command_line(script: str | Path) -> list[object]:
    """The arguments of Python that begin a script or a recipe."""
    return ["-m", "pipeline", script] if script in RECIPES else [ROOT / script]


def run_as_main(script: str | Path) -> None:
    """Run a script or a recipe in this process, with the arguments in `sys.argv`."""
    if script in RECIPES:
        sys.argv.insert(0, "pipeline")
        runpy.run_module("pipeline", run_name="__main__")
    else:
        runpy.run_path(str(ROOT / script), run_name="__main__")


def run(
    script: str | Path,
    *arguments: object,
    expect: int = 0,
    processes: int = 1,
    sharded: bool = False,
    accelerate: bool = False,
) -> subprocess.CompletedProcess:
    """Run a script as a user would, with a launcher for several processes; checks its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NETRC": os.devnull}
    for name in ("WANDB_MODE", "WANDB_API_KEY"):  # as on a machine where nobody has logged in
        environment.pop(name, None)
    finished = subprocess.run(
        [sys.executable, *map(str, [*launcher(processes, sharded, accelerate), *command_line(script), *arguments])],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == expect, f"{script} {arguments}: {finished.stdout}\n{finished.stderr}"
    return finished


def one_precision_again() -> None:
    """Forget with which precision this process has trained: it may have one alone, otherwise."""
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


def start(script: str, *arguments: object, processes: int, sharded: bool = False) -> subprocess.Popen:
    """Begin what `run` runs."""
    return subprocess.Popen(
        [sys.executable, *map(str, [*launcher(processes, sharded), *command_line(script), *arguments])],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path) -> None:
    """Until a file or folder is there."""
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def of_rank(launched: subprocess.Popen, rank: int) -> int:
    """The process id of one of the processes that `start` launched."""
    children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
    (found,) = (pid for pid in children if f"\0RANK={rank}\0" in f"\0{Path(f'/proc/{pid}/environ').read_text()}\0")
    return int(found)


def call(script: str | Path, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
    """Run a script in this process, which has imported what it needs already; checks its exit status."""
    one_precision_again()
    out, error = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [script, *map(str, arguments)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            run_as_main(script)
    except SystemExit as exit_:
        status = exit_.code
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert status == expect, f"{script} {arguments}: {out.getvalue()}\n{error.getvalue()}"
    return subprocess.CompletedProcess([script, *arguments], status, out.getvalue(), error.getvalue())


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline wandb run's file.

    The file is a log in blocks of 32 KiB after a header of 7 bytes: each piece has a checksum (4 bytes), its
    length (2), its kind (1: whole, 2: first, 3: middle, 4: last) and its bytes.
    """
    from wandb.proto import wandb_internal_pb2 as protocol

    data, position, pending = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # too little of the block is left for a piece
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        pending += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = protocol.Record()
            record.ParseFromString(pending)
            pending = b""
            yield record


def one_line_of_error(finished: subprocess.CompletedProcess) -> str:
    """The one line that a refused command leaves on stderr."""
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return lines[0]
