"""Command of tune.py: search settings across seeds."""

import argparse

from models import MODELS
from pipeline.cli import types
from pipeline.cli.control_flags import with_control
from pipeline.cli.parser import Parser, add_batch_option, add_project_options, add_seeds_option
from pipeline.cli.settings_flags import (
    add_fields,
    check_batches,
    flags_of_batches,
    given_fields,
    model_fields,
    training_settings,
)
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    group = parser.add_argument_group("tuning")
    group.add_argument(
        "--TRIALS",
        type=types.integer(1),
        default=20,
        help="trials of the study at the end; several processes may each complete the trial that they have begun",
    )
    add_seeds_option(group, "seeds that every trial trains with")
    group.add_argument(
        "--KL_GAUSSIAN_WEIGHT", type=types.number(0), default=0.01, help="weight of KL_G (nats) in the objective"
    )
    group.add_argument(
        "--KL_DIRICHLET_WEIGHT", type=types.number(0), default=0.01, help="weight of KL_D (nats) in the objective"
    )
    group.add_argument(
        "--STORAGE",
        type=types.OrNone(types.database),
        default=None,
        help="URL of the study's database (default: study.db in the project)",
    )
    add_project_options(parser, project="tuning")
    group = parser.add_argument_group("data")
    group.add_argument(
        "--DATA_NAME", "--DATA", type=types.name, default="wikitext2", help="name of the prepared dataset"
    )
    group = parser.add_argument_group("model")
    known = "; ".join(f"{name}: {settings.summary}" for name, settings in MODELS.items())
    group.add_argument("--MODEL", choices=list(MODELS), required=True, help=known)
    add_fields(group, *MODELS.values())
    group = parser.add_argument_group("training")
    add_fields(group, TrainingSettings, leave_out=("seed", "start_from"))
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Tune the settings of a model, and print the best configuration and its figures on the test split."""
    if arguments.PRETRAINED is not None:
        raise UserError(
            "tune.py searches settings of models from scratch; leave --PRETRAINED out, and compare models around it by "
            "train.py"
        )
    check_batches(flags_of_batches(arguments))
    given = with_control(MODELS[arguments.MODEL], model_fields(arguments, MODELS), training_settings(arguments))
    training_fields = given_fields(arguments, TrainingSettings)

    from pipeline.data.dataset import load_prepared
    from pipeline.experiments.tracker import check_login
    from pipeline.recipes.study import Tuning, Weights
    from pipeline.recipes.tuning import tune
    from pipeline.runtime.devices import keep_freed_memory, precision
    from pipeline.training.epoch_orders import EpochOrders

    check_login(arguments.WANDB_ENTITY)
    data = load_prepared(arguments.DATA_DIR, arguments.DATA_NAME)
    EpochOrders(training_settings(arguments), data.splits["train"])  # refuses settings that do not fit the data
    keep_freed_memory()
    training_fields["precision"] = precision(training_fields.get("precision", "auto"))
    tuning = Tuning(
        settings=MODELS[arguments.MODEL],
        model_fields=given,
        training_fields=training_fields,
        weights=Weights(arguments.KL_GAUSSIAN_WEIGHT, arguments.KL_DIRICHLET_WEIGHT),
        seeds=arguments.SEEDS,
        data=data,
        data_name=arguments.DATA_NAME,
        data_dir=arguments.DATA_DIR,
        output_dir=arguments.OUTPUT_DIR,
        project=arguments.PROJECT_NAME,
        entity=arguments.WANDB_ENTITY,
    )
    tune(tuning, arguments.STORAGE, arguments.TRIALS, arguments.GENERATION_BATCH_SIZE)
