"""The command line of tune.py."""

import argparse

from models import MODELS
from pipeline.cli import settings_flags as options
from pipeline.cli import types
from pipeline.cli.parser import Parser, add_batch_option, add_project_options
from pipeline.experiments.training_settings import TrainingSettings


def parse(description: str) -> argparse.Namespace:
    """Read the command line of a script with this description."""
    parser = Parser(description)
    group = parser.add_argument_group("tuning")
    group.add_argument(
        "--TRIALS",
        type=types.integer(1),
        default=20,
        help="trials that the study has in the end; several processes end what they have begun then",
    )
    group.add_argument(
        "--SEEDS",
        type=types.integer(0, 2**32 - 1),
        nargs="+",
        action=types.Distinct,
        default=[1, 2, 3],
        help="seeds that every trial trains with",
    )
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
    options.add_fields(group, *MODELS.values())
    group = parser.add_argument_group("training")
    options.add_fields(group, TrainingSettings, leave_out=("seed", "start_from"))
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Parse, tune, report."""
    model_fields = options.model_fields(arguments, MODELS)
    training_fields = options.given_fields(arguments, TrainingSettings)
    from pipeline.data.dataset import load_prepared
    from pipeline.experiments.tracker import check_login

    check_login(arguments.WANDB_ENTITY)
    data = load_prepared(arguments.DATA_DIR, arguments.DATA_NAME)

    from pipeline.recipes import tuning as tune
    from pipeline.runtime.devices import keep_freed_memory, precision

    keep_freed_memory()
    training_fields["precision"] = precision(training_fields.get("precision", "auto"))
    tuning = tune.Tuning(
        settings=MODELS[arguments.MODEL],
        model_fields=model_fields,
        training_fields=training_fields,
        weights=tune.Weights(arguments.KL_GAUSSIAN_WEIGHT, arguments.KL_DIRICHLET_WEIGHT),
        seeds=arguments.SEEDS,
        data=data,
        data_name=arguments.DATA_NAME,
        data_dir=arguments.DATA_DIR,
        output_dir=arguments.OUTPUT_DIR,
        project=arguments.PROJECT_NAME,
        entity=arguments.WANDB_ENTITY,
    )
    storage = arguments.STORAGE
    if storage is None:
        tuning.folder.mkdir(parents=True, exist_ok=True)
        storage = f"sqlite:///{(tuning.folder / 'study.db').resolve()}"
    with tune.alone(tuning):  # two that make the tables of a new database at once are in each other's way
        study = tune.open_study(tuning, storage)
    tune.write_sweep(tuning)
    tune.run_trials(tuning, study, arguments.TRIALS)
    with tune.alone(tuning):
        config = tune.write_best(tuning, study)
        found = config["found_by"]
        print(f"best: trial {found['trial']}, objective {found['value']:.4f}; {config['model']}, {config['training']}")
        tested = tune.test_best(tuning, study, arguments.GENERATION_BATCH_SIZE)
    for seed in tuning.seeds:
        if seed not in tested:
            print(f"  seed {seed}: its model is not in {tuning.folder}; the process that trained it tests it")
    for seed, figures in tested.items():
        bleu = figures.get("test/reconstruction_bleu")
        shown = "" if bleu is None else f", BLEU {bleu:.2f}"
        print(f"  seed {seed}, test: perplexity {figures['test/perplexity']:.3f}{shown}")
    print(f"written to {tuning.best} (train.py --CONFIG {tuning.best}) and {tuning.sweep}")
