"""Tiny prepared data, and scripts that run in this process or in processes of their own."""

import contextlib
import io
import os
import random
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from tests.zygote import zygote

ROOT = Path(__file__).parent.parent
RECIPES = ("demo", "synth", "paper", "rates")  # run as `python -m pipeline NAME`
WORDS = ("the", "a", "old", "young", "king", "queen", "cat", "dog", "house", "river", "town", "saw", "found", "left")


def text(count: int, seed: int = 0) -> str:
    """Random short sentences, one document a line."""
    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(WORDS, k=draw.randint(6, 14))) + " .\n" for _ in range(count))


def hub_files() -> set[Path]:
    """Files in the home of the hub's client."""
    return {path for path in Path(os.environ["HF_HOME"]).rglob("*") if path.is_file()}


def prepare_tiny(data_dir: Path, name: str = "tiny", count: int = 300) -> None:
    """Prepare a tiny dataset in this process."""
    source = data_dir / f"{name}.txt"
    data_dir.mkdir(parents=True, exist_ok=True)
    source.write_text(text(count))
    settings = PreparationSettings("wordpiece", 200, "paper", more_than=5, fewer_than=50)
    prepare(TextSource(str(source), Split(0.1, 0.1, 0)), name, data_dir, settings)


def train_tiny(folder: Path, name: str, model: str, steps: int = 100) -> None:
    """Train an experiment on tiny data, in this process: long enough for texts that differ, too short for good ones."""
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
    """Arguments of Python that launch a script in several processes.

    Args:
        processes: number of processes; one needs no launcher.
        sharded: use accelerate launch with the configuration for FSDP.
        accelerate: use accelerate launch instead of torchrun.
    """
    if accelerate:
        settings = ("--multi_gpu", "--main_process_port", 0)  # also on CPUs
        return ["-m", "accelerate.commands.launch", *settings, "--num_processes", processes]
    if sharded:
        settings = ("--config_file", ROOT / "configs" / "fsdp.yaml", "--main_process_port", 0)
        return ["-m", "accelerate.commands.launch", *settings, "--num_processes", processes]
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []


def command_line(script: str | Path) -> list[str | Path]:
    """Arguments of Python that run a script or a recipe."""
    return ["-m", "pipeline", script] if script in RECIPES else [ROOT / script]


def run_as_main(script: str | Path) -> None:
    """Run a script or a recipe in this process, with the arguments in `sys.argv`."""
    if script in RECIPES:
        sys.argv.insert(0, "pipeline")
        runpy.run_module("pipeline", run_name="__main__")
    else:
        runpy.run_path(str(ROOT / script), run_name="__main__")


def user_environment() -> dict[str, str]:
    """Environment variables of a user who has not logged in to wandb."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NETRC": os.devnull}
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        environment.pop(name, None)
    return environment


def run(
    script: str | Path,
    *arguments: object,
    expect: int = 0,
    processes: int = 1,
    sharded: bool = False,
    accelerate: bool = False,
    fresh: bool = False,
    wandb: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a script or a recipe in a process of its own, and check its exit status.

    Args:
        script: name of a script or a recipe, or path of another script.
        arguments: its flags.
        expect: the exit status.
        processes: number of processes; more than one are started by a launcher, whose status counts.
        sharded: see `launcher`.
        accelerate: see `launcher`.
        fresh: start Python anew, as a user does. Otherwise one process is forked from one that has imported the
            libraries, which saves seconds.
        wandb: let a forked script log to wandb, as others do; each run starts a process.
    """
    environment = user_environment()
    if processes == 1 and not fresh:
        assert zygote().serves(environment), "an environment variable has changed that imported modules have read"
        return run_ranks(script, *arguments, expect=expect, count=1, wandb=wandb)
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


def run_ranks(
    script: str | Path,
    *arguments: object,
    count: int = 2,
    expect: int = 0,
    folder: Path = ROOT,
    wandb: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a script in `count` forked processes that compute together, with the variables that torchrun sets.

    Nothing ends the others if one fails, as a launcher would: for runs that succeed.
    """
    with tempfile.TemporaryDirectory() as logs:
        output, errors = Path(logs, "output"), Path(logs, "errors")
        ranks = [{}]
        if count > 1:
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
            sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
            ranks = [{**address, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        command = [script, *arguments] if script in RECIPES else [ROOT / script, *arguments]
        started = [
            zygote().start(command, output, errors, user_environment() | rank, tracker=wandb, folder=folder)
            for rank in ranks
        ]
        statuses = [zygote().wait(pid) for pid in started]
        said, errors_said = output.read_text(), errors.read_text()
    assert statuses == [expect] * count, f"{script} {arguments} {statuses}: {said}\n{errors_said}"
    return subprocess.CompletedProcess([str(script), *map(str, arguments)], expect, said, errors_said)


def one_precision_again() -> None:
    """Let this process train in another precision: accelerate allows one alone otherwise."""
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)


def start(script: str, *arguments: object, processes: int, sharded: bool = False) -> subprocess.Popen[str]:
    """Start a script with a launcher and return at once; stdout holds stderr as well."""
    return subprocess.Popen(
        [sys.executable, *map(str, [*launcher(processes, sharded), *command_line(script), *arguments])],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path) -> None:
    """Wait until a file or folder exists, for at most 120 seconds."""
    for _ in range(2400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def of_rank(launched: subprocess.Popen[str], rank: int) -> int:
    """Process id of one rank of a launched script."""
    children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
    (found,) = (pid for pid in children if f"\0RANK={rank}\0" in f"\0{Path(f'/proc/{pid}/environ').read_text()}\0")
    return int(found)


class SilentTracker:
    """Stub of a wandb run: every attribute and every call returns the stub itself."""

    def __getattr__(self, name: str) -> "SilentTracker":
        return self

    def __call__(self, *arguments: object, **settings: object) -> "SilentTracker":
        return self


def call(script: str | Path, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script or a recipe in this process, without wandb, and check its exit status.

    What it changes in the environment does not stay.
    """
    one_precision_again()
    environment = dict(os.environ)
    out, error = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [str(script), *map(str, arguments)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    status: int | str | None = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), without_wandb():
            run_as_main(script)
    except SystemExit as exit_:
        status = exit_.code
    finally:
        sys.argv = before
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert status == expect, f"{script} {arguments}: {out.getvalue()}\n{error.getvalue()}"
    return subprocess.CompletedProcess([str(script), *map(str, arguments)], expect, out.getvalue(), error.getvalue())


@contextlib.contextmanager
def without_wandb() -> Iterator[None]:
    """Replace wandb, each of whose runs starts a process, by a module where nobody is logged in."""
    stub = module_from_spec(ModuleSpec("wandb", None))
    silent: dict[str, Any] = dict.fromkeys(("init", "Settings", "Histogram", "Table"), SilentTracker())
    vars(stub).update(silent, login=lambda **_: False)
    before = sys.modules.get("wandb", stub)
    if before is not None:  # None is of a test that forbids the import
        sys.modules["wandb"] = stub
    try:
        yield
    finally:
        if before is stub:
            del sys.modules["wandb"]
        else:
            sys.modules["wandb"] = before


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline wandb run's file.

    The file is a log in blocks of 32 KiB after a header of 7 bytes: each piece has a checksum (4 bytes), its
    length (2), its kind (1: whole, 2: first, 3: middle, 4: last) and its bytes.
    """
    from wandb.proto import wandb_internal_pb2

    protocol: Any = wandb_internal_pb2  # its classes are made at run time

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


def one_line_of_error(finished: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr of a refused command."""
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return lines[0]
