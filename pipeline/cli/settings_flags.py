"""A command-line option for each setting of models and training, and settings from a configuration file."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.cli.types import OrNone, boolean, integer, limit, name, number
from pipeline.experiments.training_settings import DEFAULT_STEPS
from pipeline.runtime.errors import UserError

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
    "free_bits": (number(0), "nats of KL_G that each dimension has free, on average over one batch of one process"),
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
    "shuffle_window": (
        integer(1),
        "sentences that are shuffled together, 8 bytes of memory each: all of a corpus that has no more, otherwise "
        "runs of neighbours drawn at random",
    ),
    "loader_workers": (
        integer(-1, 64),
        "processes that read batches ahead, which changes no number; -1 for two beside a GPU and none otherwise",
    ),
    "start_from": (
        OrNone(name),
        "experiment of the project whose best weights training starts from, wherever its model and this one have the "
        "same; the rest is drawn with SEED",
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
    from pipeline.runtime.files import read_json

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
                # A text, in quotes, is no number; a name is a text.
                named = isinstance(kind, OrNone) and (value is None or isinstance(value, str))
                value = kind(str(value) if named else json.dumps(value))
            except argparse.ArgumentTypeError as error:
                raise UserError(f"{path}: {field} {error}") from None
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, value)
