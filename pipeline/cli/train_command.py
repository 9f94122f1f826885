"""The command line of train.py."""

import argparse
import dataclasses

from models import MODELS
from pipeline.cli import settings_flags as options
from pipeline.cli import types
from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.experiments.training_settings import TrainingSettings


def parse(description: str) -> argparse.Namespace:
    """Read the command line of a script with this description."""
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
        help="JSON file with settings of model and training, as tune.py writes it; flags that are given come before it "
        "(default: none)",
    )
    options.add_fields(group, *MODELS.values())
    group = parser.add_argument_group("training")
    options.add_fields(group, TrainingSettings)
    group.add_argument(
        "--RESTART", type=types.boolean, default=False, help="True: remove an earlier run of this name and train anew"
    )
    arguments = parser.parse_args()
    if arguments.CONFIG is not None:
        options.fill_from_config(arguments, arguments.CONFIG, MODELS)
    arguments.MODEL = arguments.MODEL or "T"
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Parse, train, report."""
    model_fields = options.model_fields(arguments, MODELS)
    training = TrainingSettings(**options.given_fields(arguments, TrainingSettings))

    from pipeline.data.dataset import load_prepared
    from pipeline.experiments.config import failure_recorded, new_config, read_config, start_or_continue
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, tracking

    check_login(arguments.WANDB_ENTITY)
    data = load_prepared(arguments.DATA_DIR, arguments.DATA_NAME)
    settings = MODELS[arguments.MODEL](vocabulary_size=data.tokenizer.vocabulary_size, **model_fields)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)

    import torch

    from models import build
    from pipeline.runtime.devices import keep_freed_memory, precision, processes
    from pipeline.training.fsdp import check_configuration
    from pipeline.training.trainer import Trainer
    from pipeline.training.warm_start import start_from

    check_configuration(training.compile)
    # Of several processes the first writes and speaks.
    keep_freed_memory()
    team = processes()
    say = team.print
    torch.manual_seed(training.seed)
    model = build(settings)
    if training.start_from is not None and (arguments.RESTART or not files.begun):
        source = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, training.start_from)
        fresh = start_from(model, source, files, data.identity)
        say(f"starts from the weights of {training.start_from}" + (f"; fresh: {', '.join(fresh)}" if fresh else ""))
    with team.main_process_first():
        files.claim()
        if arguments.RESTART and team.is_main_process:
            files.remove()
        wanted = training.precision
        if wanted == "auto" and files.config.exists():  # what another process or an earlier part of the run found
            wanted = read_config(files)["training"].get("precision", wanted)
        training = dataclasses.replace(training, precision=precision(wanted))
        config = start_or_continue(files, new_config(settings, training, arguments.DATA_NAME, data.identity))
    say(
        f"{files.folder.name}: {settings.summary}, {sum(p.numel() for p in model.parameters()):,} parameters, on "
        f"{arguments.DATA_NAME} ({len(data.splits['train']):,} sentences); {dataclasses.asdict(training)}"
    )
    with tracking(files, config, arguments.WANDB_ENTITY, active=team.is_main_process) as tracker:
        trainer = Trainer(model, data, training, files, tracker)
        if trainer.resume():
            say(f"continuing after step {trainer.progress.step} of {trainer.total_steps}")
        with failure_recorded(files):
            figures = trainer.train()
        if team.is_main_process:
            tracker.summarise(figures)
    say(
        f"best epoch {figures['best_epoch']}: validation cross-entropy {figures['validation/cross_entropy']:.3f}, "
        f"perplexity {figures['validation/perplexity']:.2f}, written to {files.folder}"
    )
