"""Command of train.py: train a model or resume its training."""

import argparse
import dataclasses
import sys

from models import MODELS
from models.declaration import SettingError
from pipeline.cli import types
from pipeline.cli.control_flags import with_control
from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.cli.settings_flags import (
    add_fields,
    check_batches,
    fill_from_config,
    flag,
    flags_of_batches,
    model_fields,
    training_settings,
)
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import AROUND_PRETRAINED, TrainingSettings
from pipeline.runtime.errors import UserError

# Folders of a project that are no experiments.
OTHERS = {"report": "the report of report.py", "logs": "the outputs of a recipe's steps"}


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("data")
    group.add_argument(
        "--DATA_NAME", "--DATA", type=types.name, default="wikitext2", help="name of the prepared dataset"
    )
    group = parser.add_argument_group("model")
    known = "; ".join(f"{name}: {settings.summary}" for name, settings in MODELS.items())
    group.add_argument("--MODEL", choices=list(MODELS), help=f"{known} (default: T)")
    group.add_argument(
        "--CONFIG",
        type=types.file,
        help="JSON file with settings of model and training, as tune.py writes it; flags have precedence over it, "
        "None that is typed out too (default: none)",
    )
    add_fields(group, *MODELS.values())
    group = parser.add_argument_group("training")
    add_fields(group, TrainingSettings)
    group.add_argument(
        "--RESTART", type=types.boolean, default=False, help="True: remove an earlier run of this name and train anew"
    )
    arguments = parser.parse_args()
    batches = flags_of_batches(arguments)
    check_batches(batches)
    if arguments.CONFIG is not None:
        fill_from_config(arguments, arguments.CONFIG, MODELS)
        check_batches({**batches, "batch_tokens": arguments.BATCH_TOKENS})
    arguments.MODEL = arguments.MODEL or "T"
    if arguments.PRETRAINED is not None:
        for name, value in AROUND_PRETRAINED.items():
            # A path of rates ends after its last step.
            unused = name == "patience" and arguments.RATE_PATH is not None
            if getattr(arguments, name.upper()) is None and not unused:
                setattr(arguments, name.upper(), value)
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Train a model, or resume its training, and print the figures of the best epoch."""
    train(arguments, ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME))


def train(arguments: argparse.Namespace, files: ExperimentFiles) -> None:
    """Train a model, or resume its training.

    Args:
        arguments: flags of the model, of training and of the data; one that is absent is not given.
        files: where the experiment is written.
    """
    if files.name in OTHERS and not files.begun:
        raise UserError(f"--EXPERIMENT_NAME {files.name} is the folder of {OTHERS[files.name]}; take another name")
    flags = model_fields(arguments, MODELS)
    training = training_settings(arguments)
    if training.compile and flags.get("pretrained") is not None:
        # Its compilation takes minutes and breaks the graph at every layer of transformers.
        raise UserError("a model around --PRETRAINED is not compiled; leave --COMPILE out")
    given = with_control(MODELS[arguments.MODEL], flags, training)

    import torch

    from models.text_model import UNCHANGED
    from pipeline.data.dataset import load_prepared, token_counts
    from pipeline.experiments.base import around, build_model, check_data_fit
    from pipeline.experiments.config import (
        as_it_began,
        failure_recorded,
        new_config,
        read_config,
        start_or_continue,
        write_config,
    )
    from pipeline.experiments.tracker import Tracker, check_login, tracking
    from pipeline.runtime.devices import keep_freed_memory, precision, processes
    from pipeline.runtime.signals import continue_without
    from pipeline.training.epoch_orders import EpochOrders
    from pipeline.training.fsdp import check_configuration
    from pipeline.training.octaves import check_octaves, remove_octaves
    from pipeline.training.trainer import Trainer
    from pipeline.training.warm_start import inherited_prices, like_source, start_at, start_from

    check_login(arguments.WANDB_ENTITY)
    data = load_prepared(arguments.DATA_DIR, arguments.DATA_NAME)
    EpochOrders(training, data.splits["train"])  # refuses settings that do not fit the data
    if (base := given.get("pretrained")) is not None:
        given = around(base, MODELS[arguments.MODEL], given, data, arguments.DATA_NAME)
    source = None
    if training.start_from is not None:
        source = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, training.start_from)
        if arguments.MODEL == "NVIB":
            given = {**like_source(source, given.get("alpha_activation", "exp")), **given}
    if not arguments.RESTART:
        given = {**given, **as_it_began(files, arguments.MODEL), **flags}
    try:
        settings = MODELS[arguments.MODEL](vocabulary_size=data.tokenizer.vocabulary_size, **given)
    except SettingError as error:  # a flag contradicts what the source decides, or what the experiment began with
        where = f"experiment {files.name!r}" if source is None else f"--START_FROM {training.start_from}"
        raise UserError(f"{where}: {error.named(flag)}") from None
    check_configuration(training.compile, settings.pretrained)
    keep_freed_memory()
    ranks = processes()
    say = ranks.print  # only rank 0 writes files and logs
    torch.manual_seed(training.seed)
    model = build_model(settings)
    check_data_fit(model, data, arguments.DATA_NAME)
    prices = UNCHANGED
    if arguments.RESTART or not files.begun:
        model.start_with(token_counts(data.splits["train"], settings.vocabulary_size))
        if source is None:
            start_at(model, data)
        else:  # replaces what it has, and leaves the rest
            fresh = start_from(model, source, files, data)
            prices = inherited_prices(source)
            say(f"starts from the weights of {training.start_from}" + (f"; fresh: {', '.join(fresh)}" if fresh else ""))
    with ranks.main_process_first():
        files.claim()
        check_octaves(files, training.rate_path)
        if arguments.RESTART and ranks.is_main_process:
            if files.prior.config.exists():
                files.prior.claim()  # no other process trains it
                say(f"the learned prior of {files.name} is removed with it")
            Tracker(files, run=None, offline=True).forget()
            if points := remove_octaves(files):
                say(f"the saved points of its path are removed with it: {', '.join(points)}")
            files.remove()
        if arguments.RESTART:
            continue_without("--RESTART True")
        wanted = training.precision
        if wanted == "auto" and files.config.exists():  # rank 0, or an earlier part of the run, has resolved it
            wanted = read_config(files)["training"].get("precision", wanted)
        training = dataclasses.replace(training, precision=precision(wanted))
        config = start_or_continue(files, new_config(settings, training, arguments.DATA_NAME, data.identity))
    say(
        f"{files.name}: {settings.summary}, {sum(p.numel() for p in model.parameters()):,} parameters, on "
        f"{arguments.DATA_NAME} ({len(data.splits['train']):,} sentences); {dataclasses.asdict(training)}"
    )
    with tracking(files, config, arguments.WANDB_ENTITY, active=ranks.is_main_process) as tracker:
        trainer = Trainer(model, data, training, files, tracker)
        trainer.control.inherit(prices)
        if trainer.resume():
            step = trainer.progress.step
            say(f"continuing after step {step} of {trainer.total_steps}")
            if trainer.after_part and (trainer.unfinished or training.epochs > 0):
                say(f"a limit cut the epoch that ended at step {step}; it counts as a whole one")
        if trainer.unfinished and ranks.is_main_process:
            write_config(files, config)
            tracker.reopen()
        with failure_recorded(files):
            figures = trainer.train()
        if ranks.is_main_process:
            tracker.summarise({**figures})
            for shortfall in trainer.control.shortfalls(figures):
                print(f"warning: {shortfall}", file=sys.stderr)
    say(
        f"best epoch {figures['best_epoch']}: validation cross-entropy {figures['validation/cross_entropy']:.3f}, "
        f"perplexity {figures['validation/perplexity']:.2f}, written to {files.folder}"
    )
