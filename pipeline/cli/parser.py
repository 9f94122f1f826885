"""Command-line options that the scripts share: their types, their ranges, and how an error is told.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import NoReturn

from pipeline.cli import types
from pipeline.cli.entry import one_line, report
from pipeline.runtime.processes import size


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
        self._refuse(f"{one_line(message)} (see {self.prog} --help)")

    def _refuse(self, message: str) -> NoReturn:
        sys.exit(report(f"{self.prog}: error: {message}", 2))

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


def add_experiment_options(parser: Parser, logged: bool = True) -> None:
    """Add the options that say which experiment is meant, where it lies and, if it is `logged`, where."""
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--EXPERIMENT_NAME", type=types.name, required=True, help="name of the run: its folder and its name in wandb"
    )
    add_project_options(parser, logged=logged)


def add_project_options(parser: Parser, project: str = "nvib", logged: bool = True) -> None:
    """Add the options that say which project is meant, where it lies and, if it is `logged`, where."""
    group = parser.add_argument_group("project")
    group.add_argument(
        "--PROJECT_NAME", type=types.name, default=project, help="project that the run belongs to: a folder of runs"
    )
    group.add_argument(
        "--OUTPUT_DIR", type=types.folder, default=Path("outputs"), help="folder that holds all projects"
    )
    group.add_argument(
        "--DATA_DIR", type=types.folder, default=Path("data"), help="folder that holds all prepared datasets"
    )
    if logged:
        group.add_argument(
            "--WANDB_ENTITY",
            type=types.OrNone(types.name),
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
        "--TEXT_COLUMN", type=types.OrNone(str), help="column of a table that holds the text (default: None)"
    )
    group.add_argument(
        "--LABEL_COLUMN",
        type=types.OrNone(str),
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
        type=types.name,
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
        "--GENERATION_BATCH_SIZE", type=types.integer(1), default=128, help="sentences that are generated together"
    )
