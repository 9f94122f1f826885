"""Measure reconstruction and generation against the rate of the latent, and write the report: `make rates`.

    python -m pipeline rates --DATA wikipedia-sample
    python -m pipeline rates --DATA wikitext2 --SEEDS 1 --EXPERIMENTS rate-30
    python -m pipeline rates --LIST True                   print which steps are done and left, and stop

For each seed: a vanilla Transformer, a language model, and NVAEs at 120, 60, 30, 22 and 15 nats a vector, each from
the weights of a higher rate. The same command resumes a run that was stopped. Writes outputs/<PROJECT_NAME>/, as
`python -m pipeline paper` does. pipeline/recipes/rates.py lists the experiments.
"""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_project_options, add_runs_options, add_steps_options
from pipeline.recipes.plan import Budget, Places, reproduce, with_sources
from pipeline.recipes.rates import RUNS, SAMPLING


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of the recipe."""
    parser = Parser(description)
    group = parser.add_argument_group("work")
    add_runs_options(group, [run.name for run in RUNS])
    group.add_argument("--BATCH_SIZE", type=types.integer(1), default=32, help="sentences per batch of every training")
    group.add_argument(
        "--NUMBER_SAMPLES", type=types.integer(1, 10**7), default=5000, help="sentences that each model generates"
    )
    add_steps_options(group)
    add_project_options(parser, project="rates")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Train, measure and report, or list the steps."""
    places = Places(arguments.PROJECT_NAME, arguments.OUTPUT_DIR, arguments.DATA_DIR, arguments.WANDB_ENTITY)
    runs = with_sources(RUNS, arguments.EXPERIMENTS)
    budget = Budget(
        seeds=arguments.SEEDS,
        max_steps=None,
        batch_size=arguments.BATCH_SIZE,
        samples=arguments.NUMBER_SAMPLES,
        importance_samples=1,
        pairs=None,
        sampling=SAMPLING,
    )
    reproduce(arguments.DATA, places, runs, budget, arguments.JOBS, arguments.LIST, "rates.json")
