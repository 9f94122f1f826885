"""Train every model of the paper, measure everything, and write the report: `make paper`.

    python -m pipeline paper --DATA wikipedia-sample
    python -m pipeline paper --DATA wikitext2 --SEEDS 1
    python -m pipeline paper --LIST True                   print which steps are done and left, and stop
    python -m pipeline paper --DATA wikitext2 --EPOCHS 5 --MINUTES 30 --TRIALS 4 --VOCAB_SIZE 8000
    python -m pipeline paper --KEPT kept                   keep each finished run there, and go on from those kept

The last but one is `make paper DATA=wikitext2`: five passes, or as many as T makes in half an hour, whichever are more.

The same command resumes a run that was stopped. If a step fails, the steps that need it are left out and all others
run. With --KEPT it resumes on another machine too, from small files, and trains again only for weights that are still
needed. Writes outputs/<PROJECT_NAME>/: one experiment for each model and seed, paper.json (steps that are done, with
their seconds), settings.json, logs/ (output of every step) and report/.

pipeline/recipes/paper.py lists the experiments.
"""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_project_options, add_runs_options, add_steps_options
from pipeline.recipes.paper import RUNS
from pipeline.recipes.passes import in_minutes
from pipeline.recipes.plan import TRIAL_PART, Budget, Places, reproduce, with_sources
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of the recipe."""
    parser = Parser(description)
    group = parser.add_argument_group("work")
    add_runs_options(group, [run.name for run in RUNS])
    group.add_argument(
        "--MAX_STEPS", type=types.integer(1), help="optimizer steps of every training (default: that of train.py)"
    )
    group.add_argument(
        "--EPOCHS", type=types.integer(1), help="passes of every training over the sentences (default: MAX_STEPS)"
    )
    group.add_argument(
        "--MINUTES",
        type=types.number(above=0, high=10**5),
        help="minutes that T trains for at least; every training has the passes that T makes in them, and at least "
        "EPOCHS (default: no minimum)",
    )
    group.add_argument(
        "--TRIALS",
        type=types.integer(1),
        help=f"trials of tune.py for each model, each with a {TRIAL_PART}th of a training's budget; the runs of the "
        "models train with the settings that it finds (default: no study, the settings of the recipe)",
    )
    group.add_argument(
        "--BATCH_SIZE", type=types.integer(1), help="sentences per batch of every training (default: that of train.py)"
    )
    group.add_argument(
        "--NUMBER_SAMPLES", type=types.integer(1, 10**7), default=5000, help="sentences that each model generates"
    )
    group.add_argument(
        "--IMPORTANCE_SAMPLES",
        type=types.integer(1),
        default=16,
        help="draws per sentence for the likelihood's bounds",
    )
    group.add_argument("--NUMBER_PAIRS", type=types.integer(1), help="pairs that are interpolated (default: all)")
    group.add_argument(
        "--VOCAB_SIZE",
        type=types.integer(100, 10**6),
        help="tokens of a WordPiece tokenizer, where the data are not prepared yet (default: the usual tokenizer)",
    )
    add_steps_options(group)
    group.add_argument(
        "--KEPT",
        type=types.folder,
        help="folder of small files, one for each experiment and study that is finished; those of the same commands "
        "and data count as done where the outputs are lost (default: none)",
    )
    add_project_options(parser, project="paper")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Train, measure and report, or list the steps."""
    if arguments.EPOCHS is not None and arguments.MAX_STEPS is not None:
        raise UserError("--EPOCHS and --MAX_STEPS both set the amount of training; leave one of them out")
    if arguments.MINUTES is not None and arguments.MAX_STEPS is not None:
        raise UserError("--MINUTES adds passes to those of --EPOCHS, and --MAX_STEPS cuts them off; leave one out")
    places = Places(arguments.PROJECT_NAME, arguments.OUTPUT_DIR, arguments.DATA_DIR, arguments.WANDB_ENTITY)
    runs = with_sources(RUNS, arguments.EXPERIMENTS)
    budget = Budget(
        arguments.SEEDS,
        arguments.MAX_STEPS,
        arguments.BATCH_SIZE,
        arguments.NUMBER_SAMPLES,
        arguments.IMPORTANCE_SAMPLES,
        arguments.NUMBER_PAIRS,
        epochs=arguments.EPOCHS,
        minutes=arguments.MINUTES,
        trials=arguments.TRIALS or 0,
        vocabulary=arguments.VOCAB_SIZE,
    )
    budget = in_minutes(arguments.DATA, places, budget, arguments.JOBS, arguments.LIST, arguments.KEPT)
    reproduce(arguments.DATA, places, runs, budget, arguments.JOBS, arguments.LIST, kept=arguments.KEPT)
