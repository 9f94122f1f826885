"""Command of train_prior.py: fit the learned prior of a trained autoencoder."""

import argparse
from typing import Any

from models.settings import LanguageModelSettings
from pipeline.cli import train_command, types
from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.cli.settings_flags import add_fields, check_batches, flag, flags_of_batches, given_fields
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import AROUND_PRETRAINED, TrainingSettings
from pipeline.runtime.errors import UserError
from pipeline.runtime.processes import is_first

OF_CONTROL = ("target_rate", "target_kept", "rate_path", "start_perplexity")
OF_BASES = ("train", "lora_rank")  # what is trained of a pretrained model
SIZES = ("dim_h", "num_heads", "num_layers", "dropout")  # those of the autoencoder, unless flags say otherwise


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("prior")
    group.add_argument(
        "--FROM",
        type=types.name,
        help="experiment of the project with --MODEL LM and the same data, which becomes the prior as it is, without "
        "training (default: a language model of the autoencoder's size is trained)",
    )
    add_fields(group, LanguageModelSettings, leave_out=("pretrained",))
    group = parser.add_argument_group("training")
    add_fields(group, TrainingSettings, leave_out=OF_CONTROL)
    group.add_argument(
        "--RESTART", type=types.boolean, default=False, help="True: remove an earlier prior and fit it anew"
    )
    arguments = parser.parse_args()
    check_batches(flags_of_batches(arguments))
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Fit the prior, or resume its training."""
    from pipeline.experiments.config import read_config
    from pipeline.experiments.language_model_prior import causal_base, check_autoencoder, take_over, taken_over
    from pipeline.experiments.load import load_data

    if arguments.FROM is not None and not is_first():
        return  # rank 0 copies, and what another process would check changes meanwhile
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    model: dict[str, Any] = config["model"]
    check_autoencoder(files, model)
    own = files.prior
    if not arguments.RESTART and taken_over(own):
        raise UserError(f"{files.name} has a prior that was taken over; replace it with --RESTART True")
    if arguments.FROM is not None:
        if given := {**given_fields(arguments, LanguageModelSettings), **given_fields(arguments, TrainingSettings)}:
            raise UserError(
                f"{flag(next(iter(given)))} is for training, and --FROM takes a trained model; leave one of them out"
            )
        source = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.FROM)
        if own.config.exists() and not arguments.RESTART:
            raise UserError(f"{files.name} has a prior already; replace it with --RESTART True")
        files.claim()
        take_over(source, own, config)
        print(f"{arguments.FROM} is the prior of {files.name} now, in {own.folder}")
    else:
        files.claim()  # the figures of its samples go with an earlier prior
        load_data(files, config, arguments.DATA_DIR)  # refuses data that were prepared in another way since
        arguments.MODEL, arguments.DATA_NAME = LanguageModelSettings.name, config["data"]["name"]
        arguments.PRETRAINED = causal_base(model)
        if arguments.PRETRAINED is None:
            for name in OF_BASES:
                if getattr(arguments, name.upper()) is not None:
                    raise UserError(
                        f"{flag(name)} is for the prior of a model around a causal base, and that of {files.name} has "
                        "weights of its own; leave it out"
                    )
        usual = {name: model[name] for name in SIZES} if arguments.PRETRAINED is None else AROUND_PRETRAINED
        for name, value in usual.items():
            if getattr(arguments, name.upper()) is None:
                setattr(arguments, name.upper(), value)
        train_command.train(arguments, own)
    if is_first():
        print(f"sample from it: sample.py --EXPERIMENT_NAME {files.name} --PRIOR learned")
