"""Command-line options that the scripts share: their types, their ranges, and how an error is told.

Nothing heavy is imported here, so that `--help` answers at once.
"""

import argparse
import dataclasses
import errno
import json
import os
import re
import reprlib
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pipeline.errors import UserError
from pipeline.interruption import CONTINUES, Interrupted, ignore_signals, raise_on_signals, received
from pipeline.locks import release
from pipeline.settings import DEFAULT_STEPS
from pipeline.team import is_first, leave, peer_lost, size

# What the disk refuses with, and what to do: it is full, a quota or the largest size of a file is reached; or this
# user may not write.
NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"make room; {CONTINUES}")
OTHERS_WAIT = 3.0  # seconds
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
        self.exit(2, f"{self.prog}: error: {_one_line(message)} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str]]:
        """Parse, hide the GPUs if the CPU is asked for, and refuse company that the script has no work for."""
        args = sys.argv[1:] if args is None else list(args)
        for flag in (text.removesuffix("=--") for text in args if text.endswith("=--")):
            self.error(f"argument {flag}: -- is no value")  # argparse takes it for an empty list
        if size() > 1 and not self.together:
            self.exit(
                2,
                f"{self.prog}: error: it runs in one process; start it without torchrun or accelerate launch\n"
                if is_first()
                else None,
            )
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
            sys.exit(_report(f"{script}: {stop}", stop.status))
        if isinstance(error, UserError):
            sys.exit(_report(f"{script}: error: {_one_line(str(error))}", 2))
        if peer_lost(error):
            sys.exit(_report(f"{script}: error: another process of this run has ended; {CONTINUES}", 2))
        remedy = (NO_ROOM | NO_RIGHT).get(error.errno) if isinstance(error, OSError) else None
        if remedy is None:
            raise
        where = error.filename or "the disk"
        sys.exit(_report(f"{script}: error: {where} cannot be written ({error.strerror}): {remedy}", 2))
    sys.exit(0)


def _report(line: str, status: int) -> int:
    if not is_first():
        # The first has the same to say most often, and the launcher then ends this process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(OTHERS_WAIT)
    print(line, file=sys.stderr, flush=True)
    return status


def _one_line(text: str) -> str:
    """Text as one line, with what a terminal would not print written out."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))


def _shown(text: str) -> str:
    """What was typed, quoted, and cut short where it is long."""
    show = reprlib.Repr()
    show.maxstring = 80
    return show.repr(text)


# No count beyond the first can be meant; numbers beyond the others are lost on the way through float32.
MOST = {int: 2**31 - 1, float: 1e30}
LEAST = 1e-30


@dataclass(frozen=True)
class Bounded:
    """An argparse type: a number within limits; `integer` and `number` make it.

    Args:
        kind: int or float.
        low: the least.
        high: the largest.
        above: it is larger than this.
        below: it is smaller than this.
    """

    kind: type[int] | type[float]
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def __call__(self, text: str) -> int | float:
        """Parse.

        Raises:
            ArgumentTypeError: it is no such number.
        """
        try:
            value = self.kind(text)
        except ValueError:
            name = "an integer" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {name}, got {_shown(text)}") from None
        limits = [
            (self.low, "at least", lambda limit: value >= limit),
            (self.high, "at most", lambda limit: value <= limit),
            (self.above, "above", lambda limit: value > limit),
            (self.below, "below", lambda limit: value < limit),
        ]
        limits = [(limit, word, holds) for limit, word, holds in limits if limit is not None]
        wanted = " and ".join(f"{word} {limit}" for limit, word, _ in limits) or "finite"
        if value - value != 0 or not all(holds(limit) for limit, _, holds in limits):  # inf - inf is no number
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {_shown(text)[1:-1]}")
        most = self.high or MOST[self.kind]
        if abs(value) > most:
            raise argparse.ArgumentTypeError(f"must be at most {most} in size, got {_shown(text)[1:-1]}")
        if 0 < abs(value) < LEAST:
            raise argparse.ArgumentTypeError(f"must be at least {LEAST} in size, got {_shown(text)[1:-1]}")
        return value


def integer(low: int | None = None, high: int | None = None) -> Bounded:
    """An argparse type: an integer in [low, high]."""
    return Bounded(int, low, high)


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, below: float | None = None
) -> Bounded:
    """An argparse type: a finite number in [low, high], or strictly above `above` and below `below`."""
    return Bounded(float, low, high, above, below)


def limit(text: str) -> int:
    """An argparse type: a count of at least 1, or -1 for no limit."""
    value = integer(-1)(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1, or -1 for no limit, got 0")
    return value


def boolean(text: str) -> bool:
    """An argparse type: `True` or `False`, typed out."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"must be True or False, got {_shown(text)}")


@dataclass(frozen=True)
class OrNone:
    """An argparse type: another type, where `None` typed out (or nothing) means that it was not given."""

    kind: Callable[[str], object]

    def __call__(self, text: str) -> object | None:
        """Parse as the other type does."""
        return None if text in ("None", "") else self.kind(text)


@dataclass(frozen=True)
class Checked:
    """An argparse type: text that a check lets pass, which raises a `UserError` otherwise."""

    check: Callable[[str], object]

    def __call__(self, text: str) -> str:
        """Check.

        Raises:
            ArgumentTypeError: what the check says.
        """
        try:
            self.check(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text


class Distinct(argparse.Action):
    """Stores the values of a flag that takes several, of which no two may be equal."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store.

        Raises:
            ArgumentError: a value stands there twice.
        """
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            raise argparse.ArgumentError(self, f"{twice[0]} stands there twice; name each once")
        setattr(namespace, self.dest, values)


def folder(text: str) -> Path:
    """An argparse type: a folder that is there, or one that can be made."""
    try:
        reason = None if text and stat.S_ISDIR(os.stat(text).st_mode) else "that is none"
    except FileNotFoundError:
        reason = None
    except (OSError, ValueError) as error:  # a file on the way to it, a name too long or with a NUL, no permission
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise argparse.ArgumentTypeError(f"must be a folder, got {_shown(text)} ({reason})")
    return Path(text)


def file(text: str) -> Path:
    """An argparse type: a file that is there."""
    if not os.path.exists(text) or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"must be a file that is there, got {_shown(text)}")
    return Path(text)


def database(text: str) -> str:
    """An argparse type: the URL of a database."""
    if re.fullmatch(r"[a-z][a-z0-9+]*://\S*", text):
        return text
    raise argparse.ArgumentTypeError(f"must be the URL of a database, such as sqlite:///study.db, got {_shown(text)}")


def wandb_project(text: str) -> str:
    """An argparse type: a project on Weights & Biases with whose it is."""
    if re.fullmatch(r"[A-Za-z0-9_\-]+/\w[^/\\#?%:]*", text) and text.isprintable():
        return text
    raise argparse.ArgumentTypeError(f"must be ENTITY/PROJECT, got {_shown(text)}")


def name(text: str) -> str:
    """An argparse type: the name of an experiment, a project or a dataset; one folder, nothing else."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}", text):
        return text
    raise argparse.ArgumentTypeError(
        f"must be 1 to 100 letters, digits, '_', '-' or '.', and begin with no '-' or '.', got {_shown(text)}"
    )


def add_experiment_options(parser: Parser) -> None:
    """Add the options that say which experiment is meant, where it lies and where it is logged."""
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--EXPERIMENT_NAME", type=name, required=True, help="name of the run: its folder and its name in wandb"
    )
    add_project_options(parser)


def add_project_options(parser: Parser, project: str = "nvib") -> None:
    """Add the options that say which project is meant, where it lies and where it is logged."""
    group = parser.add_argument_group("project")
    group.add_argument(
        "--PROJECT_NAME", type=name, default=project, help="project that the run belongs to: a folder of runs"
    )
    group.add_argument("--OUTPUT_DIR", type=folder, default=Path("outputs"), help="folder that holds all projects")
    group.add_argument("--DATA_DIR", type=folder, default=Path("data"), help="folder that holds all prepared datasets")
    group.add_argument(
        "--WANDB_ENTITY",
        type=OrNone(name),
        default=None,
        help="Weights & Biases user or team to log to; without it the run is logged offline (default: offline)",
    )
    group.add_argument(
        "--DEVICE",
        choices=("auto", "cpu"),
        default="auto",
        help="auto computes on a GPU where there is one, cpu does not",
    )


# One flag for each field of the settings' dataclasses: its type, and what it means with its unit.
FLAGS: dict[str, tuple[Callable[[str], object] | tuple[str, ...], str]] = {
    "dim_h": (integer(2, 2**16), "width of every vector; feed-forward layers are four times as wide"),
    "num_heads": (integer(1), "attention heads, which divide DIM_H"),
    "num_layers": (integer(1, 1000), "encoder layers, and as many decoder layers"),
    "dropout": (number(0, below=1), "dropout probability, in [0, 1)"),
    "word_dropout": (number(0, below=1), "probability that training hides a word of the decoder's input, in [0, 1)"),
    "pooling": (("mean", "max"), "how the encoder's vectors become one"),
    "stride_perc": (number(0, below=1), "share of the vectors that is dropped by position, in [0, 1)"),
    "prior_mu": (number(), "mean of the prior's vectors"),
    "prior_var": (number(above=0), "variance of the prior's vectors, above 0"),
    "prior_alpha": (number(above=0), "concentration of the prior at length 0, in pseudo-counts"),
    "delta": (number(0), "concentration the prior adds for every token, in pseudo-counts; 0 does not grow with length"),
    "kappa": (integer(1, 1000), "vectors drawn per component in training"),
    "alpha_activation": (("exp", "relu"), "from a score to a pseudo-count; relu gives exact zeros"),
    "alpha_threshold": (number(0), "vectors with a smaller pseudo-count are dropped in evaluation; 0 keeps all"),
    "kl_gaussian_lambda": (number(0), "weight of KL_G (nats per dimension) in the loss"),
    "kl_dirichlet_lambda": (number(0), "weight of KL_D (nats per component) in the loss"),
    "kl_annealing_gaussian": (("constant", "monotonic", "cyclic"), "schedule of KL_G's weight over the run"),
    "kl_annealing_dirichlet": (("constant", "monotonic", "cyclic"), "schedule of KL_D's weight over the run"),
    "kl_warmup": (number(0, below=1), "share of the run before the KL starts, in [0, 1)"),
    "free_bits": (number(0), "nats of KL_G that each dimension has free, on average over a batch"),
    "learning_rate": (number(above=0), "learning rate of Adam"),
    "warmup_steps": (integer(0), "optimizer steps over which the learning rate rises from 0"),
    "epochs": (limit, "passes over the training sentences; -1 for no limit"),
    "max_steps": (
        limit,
        f"optimizer steps after which training stops; -1 for no limit, but {DEFAULT_STEPS} if EPOCHS has none either",
    ),
    "patience": (limit, "epochs without a lower validation loss after which training stops, -1 for no limit"),
    "batch_size": (integer(1), "sentences of a batch, of one process"),
    "accumulation_steps": (integer(1), "batches whose gradients make one optimizer step"),
    "gradient_clip": (number(above=0), "largest norm of an optimizer step's gradient"),
    "save_steps": (integer(1), "optimizer steps between two checkpoints within an epoch"),
    "on_non_finite": (
        ("stop", "skip"),
        "what a loss or gradient that is not finite does: stop training, or skip the step and count it",
    ),
    "seed": (integer(0, 2**32 - 1), "seed of weights, order, dropout and sampling"),
    "precision": (
        ("auto", "fp32", "bf16"),
        "fp32, bf16 for autocast to bfloat16, or auto: bf16 on a GPU that has it and a processor found to be faster so",
    ),
    "gradient_checkpointing": (
        boolean,
        "True computes the layers again for the gradient and does not keep what is in them: less memory, more time, "
        "the same numbers",
    ),
    "loader_workers": (
        integer(-1, 64),
        "processes that read batches ahead, which changes no number; -1 for two beside a GPU and none otherwise",
    ),
    "compile": (boolean, "True compiles the model with torch.compile, which needs a C++ compiler on a CPU"),
}


def add_fields(group: argparse._ArgumentGroup, *settings: type, leave_out: Sequence[str] = ()) -> None:
    """Add a flag for each field of these dataclasses but some; one that is not given stays at its field's default."""
    defaults: dict[str, dict[str, object]] = {}
    for kind in settings:
        for field in dataclasses.fields(kind):
            if field.name in FLAGS and field.name not in leave_out:
                defaults.setdefault(field.name, {})[getattr(kind, "name", "")] = field.default
    for field, by_kind in defaults.items():
        kind, text = FLAGS[field]
        values = list(dict.fromkeys(by_kind.values()))
        default = values[0] if len(values) == 1 else ", ".join(f"{value} of {name}" for name, value in by_kind.items())
        only = f"{', '.join(by_kind)} only; " if 0 < len(by_kind) < len(settings) else ""
        group.add_argument(
            f"--{field.upper()}",
            default=None,
            help=f"{text} ({only}default: {default})",
            **({"choices": kind} if isinstance(kind, tuple) else {"type": kind}),
        )


def given_fields(arguments: argparse.Namespace, settings: type, *others: type) -> dict[str, object]:
    """The values given for a dataclass's fields.

    Raises:
        UserError: a flag was given that only `others` have.
    """
    own = {field.name for field in dataclasses.fields(settings)}
    for kind in others:
        for field in dataclasses.fields(kind):
            if field.name not in own and getattr(arguments, field.name.upper(), None) is not None:
                raise UserError(f"--{field.name.upper()} means nothing for --MODEL {settings.name}; leave it out")
    given = {name: getattr(arguments, name.upper(), None) for name in own}
    return {name: value for name, value in given.items() if value is not None}


def model_fields(arguments: argparse.Namespace, models: Mapping[str, type]) -> dict[str, object]:
    """The values given for the settings of `--MODEL`.

    Raises:
        UserError: a flag was given that only other models have, or they contradict each other.
    """
    chosen = models[arguments.MODEL]
    given = given_fields(arguments, chosen, *models.values())
    try:
        chosen(vocabulary_size=1, **given)  # the data will say how large it is
    except ValueError as error:
        raise UserError(str(error)) from None
    return given


def fill_from_config(arguments: argparse.Namespace, path: Path, models: Mapping[str, type]) -> None:
    """Give flags that were left out the values of a configuration (`tune.py` writes one, `config.json` is one).

    Raises:
        UserError: the file is damaged, or names a model or a setting that is unknown or out of its range.
    """
    from pipeline.files import read_json

    config = read_json(path, "--CONFIG takes a file with the settings of a model and of training")
    parts = [config.get(part) for part in ("model", "training")] if isinstance(config, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise UserError(f'{path} is no configuration: it needs {{"model": {{…}}, "training": {{…}}}}')
    values = {**parts[1], **parts[0]}
    model = values.pop("name", "T")
    if model not in list(models):
        raise UserError(f"{path} names the model {model!r}; it must be one of {', '.join(models)}")
    arguments.MODEL = arguments.MODEL or model
    values.pop("vocabulary_size", None)  # the data's
    for field, value in values.items():
        flag = field.upper()
        if field not in FLAGS or not hasattr(arguments, flag):
            raise UserError(f"{path} has {field!r}, which is no setting of a model or of training; remove it")
        kind, _ = FLAGS[field]
        if isinstance(kind, tuple):
            if value not in kind:
                raise UserError(f"{path}: {field} must be one of {', '.join(kind)}, got {value!r}")
        else:
            try:
                value = kind(json.dumps(value))  # a text, in quotes, is no number
            except argparse.ArgumentTypeError as error:
                raise UserError(f"{path}: {field} {error}") from None
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, value)


def add_judge_option(group: argparse._ArgumentGroup, required: bool) -> None:
    """Add the experiment that judges sentences."""
    group.add_argument(
        "--LANGUAGE_MODEL",
        type=name,
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
        "--GENERATION_BATCH_SIZE", type=integer(1), default=128, help="sentences that are generated together"
    )


def add_decoding_options(parser: Parser) -> None:
    """Add the options that say how tokens are chosen."""
    group = parser.add_argument_group("decoding")
    group.add_argument(
        "--DECODING",
        choices=("greedy", "sample"),
        default="greedy",
        help="greedy takes the most probable token, sample draws one",
    )
    group.add_argument(
        "--TEMPERATURE", type=number(above=0), default=1.0, help="divides the logits before a token is drawn; above 0"
    )
    group.add_argument(
        "--TOP_P",
        type=number(above=0, high=1),
        default=1.0,
        help="draw among the most probable tokens that make up this share, in (0, 1]",
    )
    add_batch_option(group)
