"""A process that has imported all that the scripts need and forks one real process a command: it starts at once.

Reads a JSON command a line and answers a JSON line: `{"arguments": [script, ...], "output": path, "room": bytes}`
starts a script and answers its `pid`; `{"wait": pid}` answers its `status` (negative: the signal that ended it).
"""

import json
import os
import resource
import runpy
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent


def child(command: dict[str, Any], output: int) -> NoReturn:
    """Run a script, with files of at most `room` bytes if that is given."""
    from pipeline.experiments import tracker as tracking

    def no_tracker(*_: Any) -> NoReturn:
        raise RuntimeError("not in this test")

    tracking._start = no_tracker  # its own processes would live on
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the script takes it
    os.dup2(output, 1)
    os.dup2(output, 2)
    if command.get("room") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["room"], command["room"]))
    sys.argv = command["arguments"]
    status = 1
    try:
        runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
    except SystemExit as exit_:
        status = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def copy(source: int, path: str) -> None:
    """What a child says, into a file that is not bound by its limit."""
    with open(source, "rb") as said, open(path, "wb", buffering=0) as log:
        while part := said.read1(1 << 16):
            log.write(part)


def main() -> None:
    """Import, then serve until the input ends."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import sacrebleu  # noqa: F401
    import torch

    import pipeline.data.dataset
    import pipeline.evaluation.judge
    import pipeline.generation.generate
    import pipeline.reporting.console
    import pipeline.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    copier = threading.Thread()
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            _, status = os.waitpid(command["wait"], 0)
            copier.join(5)  # not for ever: the child's own children may hold the pipe
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            source, output = os.pipe()
            pid = os.fork()
            if pid == 0:
                child(command, output)
            os.close(output)
            copier = threading.Thread(target=copy, args=(source, command["output"]), daemon=True)
            copier.start()
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
