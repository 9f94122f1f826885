"""Generate synthetic text in the form of a file of your own, with a report of its quality: `make synth`.

    python -m pipeline synth --DATA my_reviews.csv --TEXT_COLUMN text --NUMBER_SAMPLES 1000
    python -m pipeline synth --DATA my_reviews.csv --TEXT_COLUMN text --LABEL_COLUMN stars
    python -m pipeline synth --DATA people.csv --ROW_TEMPLATE

Runs prepareDatasets.py, train.py (a language model that judges, and the NVAE), sample.py, reverseSampleEvaluation.py
and quality.py, each as you would type it. Writes outputs/synth/<name>/: synthetic.<format>, quality.html and the other
files of an experiment.
"""

import argparse
from pathlib import Path

from pipeline.cli import types
from pipeline.cli.parser import (
    Parser,
    add_column_options,
    add_limit_options,
    check_column_types,
    preparation_flags,
)
from pipeline.data.documents import Split
from pipeline.data.formats import listed_formats
from pipeline.data.text_source import TextSource, check_source, dataset_name
from pipeline.recipes.runner import run_in_order
from pipeline.recipes.synth import LONGEST_NAME, PROJECT, Order, steps
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a recipe with this description."""
    parser = Parser(description)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--DATA",
        type=types.Checked(check_source),
        required=True,
        help=f"path of a {listed_formats()} file, also compressed with .gz behind its name, or a dataset on the hub as "
        "owner/name",
    )
    add_column_options(group)
    add_limit_options(group)
    group = parser.add_argument_group("amount")
    group.add_argument("--NUMBER_SAMPLES", type=types.integer(1, 10**7), default=1000, help="sentences to generate")
    group.add_argument("--MAX_STEPS", type=types.integer(1), default=1500, help="optimizer steps of each training")
    arguments = parser.parse_args()
    check_column_types(arguments.COLUMN_TYPES)
    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    TextSource(arguments.DATA, Split(0.05, 0.05, 42), None, *columns, arguments.DELIMITER)  # checks the flags
    if len(name := dataset_name(arguments.DATA, arguments.NAME)) > LONGEST_NAME:
        raise UserError(f"{name} leaves no room for the names of two experiments; take a shorter --NAME")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Run the steps in order. The first step that fails ends the recipe with its exit status."""
    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    order = Order(
        arguments.DATA,
        *columns,
        arguments.NUMBER_SAMPLES,
        arguments.MAX_STEPS,
        arguments.NAME,
        arguments.DELIMITER,
        tuple(preparation_flags(arguments)),
    )
    minutes = run_in_order(steps(order))
    folder = Path("outputs") / PROJECT / order.name
    print(f"\nsynthetic text and its quality are in {folder}; it took {minutes:.1f} minutes")
