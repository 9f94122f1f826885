"""A process that has imported what the scripts need and forks a real process for each command, which starts at once.

`Zygote` is the client, for the tests. The server reads one JSON command a line from stdin and answers each with a JSON
line: a command with `arguments` (see `Zygote.start`) starts a script and answers its `pid`, and `{"wait": pid}` answers
the exit `status` (negative: the signal that ended the process).
"""

import atexit
import contextlib
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
# Imported modules have read environment variables of these names already.
READ_AT_IMPORT = ("HF_", "HUGGINGFACE", "LD_", "OMP_", "PYTHON", "TOKENIZERS", "TORCH_", "XDG_")


class Zygote:
    """Client of a server that forks scripts as processes."""

    def __init__(self) -> None:
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == {"ready": True}

    def start(
        self,
        arguments: list[object],
        output: Path,
        errors: Path | None = None,
        environment: dict[str, str] | None = None,
        room: int | None = None,
        tracker: bool = True,
        folder: Path = ROOT,
    ) -> int:
        """Start a script or a recipe.

        Args:
            arguments: script or recipe, and its flags.
            output: file that stdout is appended to.
            errors: file that stderr is appended to, or None for `output`.
            environment: environment variables, or None for those of the server.
            room: size limit of a file that the process writes, in bytes, or None; `output` may be larger.
            tracker: False replaces wandb, each of whose runs starts a process that may outlive the script.
            folder: working directory.

        Returns:
            The process id.
        """
        command = {"arguments": list(map(str, arguments)), "output": str(output), "errors": str(errors or output)}
        command["folder"] = str(folder)
        return self._ask(**command, environment=environment, room=room, tracker=tracker)["pid"]

    def wait(self, pid: int) -> int:
        """Wait for a process; returns its exit status, negative for the signal that ended it."""
        return self._ask(wait=pid)["status"]

    def serves(self, environment: dict[str, str]) -> bool:
        """True if the server's imports would be the same in this environment."""
        return read_at_import(environment) == read_at_import(self.environment)

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that imported modules have read."""
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_IMPORT)}


@functools.cache
def zygote() -> Zygote:
    """The one client of this process, whose server ends with it."""
    return Zygote()


def child(command: dict[str, Any], pipe: int | None) -> NoReturn:
    """Run a script in this forked process.

    Args:
        command: see `Zygote.start`.
        pipe: takes the output, or None for the files.
    """
    from tests.forked_steps import fork_steps
    from tests.helpers import RECIPES, without_wandb

    atexit._clear()  # temporary folders of the imported modules are the server's to remove
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the script handles it
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the server's commands are not for the script
    for number, name in ((1, "output"), (2, "errors")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(pipe if pipe is not None else os.open(command[name], flags), number)
    if command["room"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["room"], command["room"]))
    if command["environment"] is not None:
        os.environ.clear()
        os.environ.update(command["environment"])
    os.chdir(command["folder"])
    if command["arguments"][0] in RECIPES:
        fork_steps()
    with contextlib.nullcontext() if command["tracker"] else without_wandb():
        status = run_command(command["arguments"])
    if command["tracker"]:
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_command(arguments: list[str]) -> int:
    """Run a script or a recipe as the main program of this process; returns its exit status."""
    from tests.helpers import run_as_main

    sys.argv = arguments
    try:
        run_as_main(arguments[0])
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def copy(source: int, path: str) -> None:
    """Copy a process's output to a file that its size limit does not affect."""
    with open(source, "rb") as output, open(path, "ab", buffering=0) as log:
        while part := output.read1(1 << 16):
            log.write(part)


def main() -> None:
    """Import, then serve until stdin ends."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import optuna  # noqa: F401
    import pandas  # noqa: F401
    import sacrebleu  # noqa: F401
    import scipy.sparse  # noqa: F401
    import torch
    import wandb  # noqa: F401

    import pipeline.data.dataset
    import pipeline.evaluation.judge
    import pipeline.generation.generate
    import pipeline.reporting.console
    import pipeline.training.trainer  # noqa: F401
    import tests.helpers  # noqa: F401

    with contextlib.suppress(ImportError):  # optional: for models around pretrained ones
        import peft  # noqa: F401
        import transformers.modeling_layers
        import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    copier = threading.Thread()
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            if copier.ident is not None:
                copier.join(5)  # a grandchild may hold the pipe open
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            source, pipe = os.pipe() if command["room"] is not None else (None, None)
            pid = os.fork()
            if pid == 0:
                child(command, pipe)
            if source is not None and pipe is not None:
                os.close(pipe)
                copier = threading.Thread(target=copy, args=(source, command["output"]), daemon=True)
                copier.start()
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
