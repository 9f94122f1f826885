"""Command-line options that the scripts share: their types, their ranges, and how an error is told.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import errno
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline.cli import types as kinds
from pipeline.runtime.errors import LostError, UserError
from pipeline.runtime.locks import inherit, release
from pipeline.runtime.processes import is_first, leave, peer_lost, size
from pipeline.runtime.signals import CONTINUES, Interrupted, ignore_signals, raise_on_signals, received

# What the disk refuses with, and what to do: it is full, a quota or the largest size of a file is reached; or this
# user may not write.
NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"make room; {CONTINUES}")
# Seconds that another process than the first gives that one: to tell the same error, and then to have the launcher end
# this one; or to be gone, when a signal ends all.
ERROR_WAIT, SIGNAL_WAIT = 20.0, 3.0
NO_RIGHT = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "mend its rights, or name another folder")


class Parser(argparse.ArgumentParser):
    """An argument parser with upper-case flags, defaults in its help, and errors of one line.

    Args:
        description: of the script.
        together: whether several processes, launched together, share the script's work.
    """

    def __init__(self, description: str, together: bool = False) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
        self.together = together
        # argparse takes -1e-3 and -inf for flags otherwise.
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self._refuse(f"{_one_line(message)} (see {self.prog} --help)")

    def _refuse(self, message: str) -> NoReturn:
        sys.exit(_report(f"{self.prog}: error: {message}", 2))

    def parse_known_args(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str]]:
        """Parse, hide the GPUs if the CPU is asked for, and refuse company that the script has no work for."""
        args = sys.argv[1:] if args is None else list(args)
        for flag in (text.removesuffix("=--") for text in args if text.endswith("=--")):
            self.error(f"argument {flag}: -- is no value")  # argparse takes it for an empty list
        if size() > 1 and not self.together:
            self._refuse("it runs in one process; start it without torchrun or accelerate launch")
        parsed, unknown = super().parse_known_args(args, namespace)
        if getattr(parsed, "DEVICE", None) == "cpu":
            # torch, which is not imported yet, Accelerate and every process started from here go by it.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return parsed, unknown


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Adds ` (default: …)` to a help text that does not already speak of its default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        quiet = action.default in (argparse.SUPPRESS, None) or action.required
        return text if text is None or quiet or "default" in text else f"{text} (default: %(default)s)"


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's `main`; a `UserError` becomes one line on stderr and exit status 2."""
    script = Path(sys.argv[0]).name
    raise_on_signals()
    try:
        try:
            main()
        finally:
            ignore_signals()  # it ends anyway
            release()
            leave()
    except (Exception, Interrupted) as error:
        if (stop := received()) is not None:  # whatever it has come out as
            # The launcher ends the others when one has ended: what there is to say, that one said, if it could.
            sys.exit(_report(f"{script}: {stop}", stop.status, only_in_its_place=True))
        if isinstance(error, LostError):
            sys.exit(_report(f"{script}: error: {_one_line(str(error))}", 2, inherit()))
        if isinstance(error, UserError):
            sys.exit(_report(f"{script}: error: {_one_line(str(error))}", 2))
        if peer_lost(error):
            sys.exit(_report(f"{script}: error: another process of this run has ended; {CONTINUES}", 2, inherit()))
        remedy = (NO_ROOM | NO_RIGHT).get(error.errno) if isinstance(error, OSError) else None
        if remedy is None:
            raise
        where = error.filename or "the disk"
        sys.exit(_report(f"{script}: error: {where} cannot be written ({error.strerror}): {remedy}", 2))
    sys.exit(0)


def _report(line: str, status: int, in_its_place: bool = False, only_in_its_place: bool = False) -> int:
    """Tell how this process ends.

    Args:
        line: that says so.
        status: the process's.
        in_its_place: whether the first of several processes is gone, and this one speaks for it.
        only_in_its_place: whether another process than the first is silent, unless it can still take that place.

    Returns:
        The status.
    """
    if not (is_first() or in_its_place):
        # The first has the same to say most often, and the launcher then ends this process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SIGNAL_WAIT if only_in_its_place else ERROR_WAIT)
        if only_in_its_place and not inherit():
            return status
    print(line, file=sys.stderr, flush=True)
    return status


def _one_line(text: str) -> str:
    """Text as one line, with what a terminal would not print written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))


def add_experiment_options(parser: Parser, logged: bool = True) -> None:
    """Add the options that say which experiment is meant, where it lies and, if it is `logged`, where."""
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--EXPERIMENT_NAME", type=kinds.name, required=True, help="name of the run: its folder and its name in wandb"
    )
    add_project_options(parser, logged=logged)


def add_project_options(parser: Parser, project: str = "nvib", logged: bool = True) -> None:
    """Add the options that say which project is meant, where it lies and, if it is `logged`, where."""
    group = parser.add_argument_group("project")
    group.add_argument(
        "--PROJECT_NAME", type=kinds.name, default=project, help="project that the run belongs to: a folder of runs"
    )
    group.add_argument(
        "--OUTPUT_DIR", type=kinds.folder, default=Path("outputs"), help="folder that holds all projects"
    )
    group.add_argument(
        "--DATA_DIR", type=kinds.folder, default=Path("data"), help="folder that holds all prepared datasets"
    )
    if logged:
        group.add_argument(
            "--WANDB_ENTITY",
            type=kinds.OrNone(kinds.name),
            default=None,
            help="Weights & Biases user or team to log to; without it the run is logged offline (default: offline)",
        )
    group.add_argument(
        "--DEVICE",
        choices=("auto", "cpu"),
        default="auto",
        help="auto computes on a GPU where there is one, cpu does not",
    )


def add_column_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what the columns of a table hold."""
    group.add_argument(
        "--TEXT_COLUMN", type=kinds.OrNone(str), help="column of a table that holds the text (default: None)"
    )
    group.add_argument(
        "--LABEL_COLUMN",
        type=kinds.OrNone(str),
        help="column of a table that holds labels: a token for each, in front of its texts (default: None)",
    )
    group.add_argument(
        "--ROW_TEMPLATE",
        nargs="?",
        const="",
        help="makes a text of each row of a table, '{name} is {age} years old' for one; without a value 'column is "
        "value, …' of all columns but the label's (default: none, TEXT_COLUMN holds the text)",
    )


def add_judge_option(group: argparse._ArgumentGroup, required: bool) -> None:
    """Add the experiment that judges sentences."""
    group.add_argument(
        "--LANGUAGE_MODEL",
        type=kinds.name,
        required=required,
        help="experiment of the project whose model judges: one of --MODEL LM; the figure of another, which sees the "
        f"sentence that it scores, has a name of its own{'' if required else ' (default: none judges)'}",
    )


def add_subset_option(group: argparse._ArgumentGroup, text: str) -> None:
    """Add the split that is evaluated."""
    group.add_argument("--DATA_SUBSET", choices=("validation", "test"), default="validation", help=text)


def add_batch_option(group: argparse._ArgumentGroup) -> None:
    """Add the size of a batch of sentences that are generated together."""
    group.add_argument(
        "--GENERATION_BATCH_SIZE", type=kinds.integer(1), default=128, help="sentences that are generated together"
    )
