"""Steps of a recipe as forked processes, in a recipe that a zygote has forked: each saves the seconds of its imports.

`fork_steps` puts them in the place of `subprocess` in the recipes' runner. A server without threads forks each step, so
that no thread of the recipe holds a lock in it; as with `subprocess`, a step outlives a recipe that is killed. Steps
run without wandb, each of whose runs starts a process.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any, NoReturn


def fork_steps() -> None:
    """Let the recipe that this process runs next fork its steps. This process has no threads yet."""
    from pipeline.recipes import runner

    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        client.close()
        _serve(server)
    server.close()

    class Step(_Step):
        requests = client

    setattr(runner, "subprocess", SimpleNamespace(Popen=Step, STDOUT=subprocess.STDOUT))  # noqa: B010 (a module)


class _Step:
    """The part of `subprocess.Popen` that the recipes' runner uses."""

    requests: socket.socket

    def __init__(
        self,
        command: Sequence[str],
        stdout: IO[str] | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Collection[int] = (),
        process_group: int | None = None,
    ) -> None:
        assert command[0] == sys.executable, "the recipes run scripts alone"
        assert stderr == (None if stdout is None else subprocess.STDOUT)
        sys.stdout.flush()
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        outputs = [1, 2] if stdout is None else [stdout.fileno()] * 2
        what = {"arguments": list(command[1:]), "environment": dict(env or os.environ), "group": process_group}
        socket.send_fds(self.requests, [json.dumps(what).encode()], [theirs.fileno(), *outputs, *pass_fds])
        theirs.close()
        self.pid = json.loads(self._answers.recv(1 << 10))
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = json.loads(self._answers.recv(1 << 10))
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def _serve(requests: socket.socket) -> NoReturn:
    """Fork a process for each request, which waits for the step that it forks, until the recipe ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that wait
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 16)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            _wait_for_step(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _wait_for_step(what: dict[str, Any], descriptors: list[int]) -> NoReturn:
    answers = socket.socket(fileno=descriptors[0])
    pid = os.fork()
    if pid == 0:
        answers.close()
        _run_step(what, *descriptors[1:3])
    for descriptor in descriptors[1:]:  # a claim is the step's and the recipe's
        os.close(descriptor)
    answers.send(json.dumps(pid).encode())
    _, status = os.waitpid(pid, 0)
    answers.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run_step(what: dict[str, Any], output: int, errors: int) -> NoReturn:
    from tests.helpers import without_wandb
    from tests.zygote import run_command

    if what["group"] is not None:
        os.setpgid(0, what["group"])
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.clear()
    os.environ.update(what["environment"])
    with without_wandb():
        status = run_command(what["arguments"])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
