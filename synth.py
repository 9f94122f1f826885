"""From a file of your own to synthetic text in the same form, with a report of its quality: what `make synth` runs.

    python synth.py --DATA my_reviews.csv --TEXT_COLUMN text --NUMBER_SAMPLES 1000
    python synth.py --DATA my_reviews.csv --TEXT_COLUMN text --LABEL_COLUMN stars
    python synth.py --DATA people.csv --ROW_TEMPLATE

Runs prepareDatasets.py, train.py (a language model that judges, and the NVAE), sample.py, reverseSampleEvaluation.py
and quality.py, each as you would type it. Writes outputs/synth/<name>/: synthetic.<format>, quality.html and all else
that an experiment leaves.
"""

import argparse
from pathlib import Path

from pipeline.cli import parser as cli
from pipeline.cli import types as kinds
from pipeline.data.sources import Source, Split, check_source, dataset_name
from pipeline.recipes.paper import flags_of
from pipeline.recipes.scripts import run_in_order

PROJECT = "synth"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--DATA",
        type=kinds.Checked(dataset_name),
        required=True,
        help="path of a .txt (a document a line), .csv, .jsonl or .parquet file, or a dataset on the hub as owner/name",
    )
    cli.add_column_options(group)
    group = parser.add_argument_group("amount")
    group.add_argument("--NUMBER_SAMPLES", type=kinds.integer(1, 10**7), default=1000, help="sentences to generate")
    group.add_argument("--MAX_STEPS", type=kinds.integer(1), default=1500, help="optimizer steps of each training")
    arguments = parser.parse_args()
    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    check_source(Source(arguments.DATA, Split(0.05, 0.05, 42), None, *columns))
    return arguments


def steps(arguments: argparse.Namespace) -> list[list[str]]:
    """The commands, in order."""
    name = dataset_name(arguments.DATA)
    columns = [part for flag in ("TEXT_COLUMN", "LABEL_COLUMN") for part in _given(arguments, flag)]
    if arguments.ROW_TEMPLATE is not None:
        columns += ["--ROW_TEMPLATE", *([arguments.ROW_TEMPLATE] if arguments.ROW_TEMPLATE else [])]
    experiment, judge = (["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", own] for own in (name, f"{name}-lm"))
    judged = [*experiment, "--LANGUAGE_MODEL", f"{name}-lm"]
    budget = ["--DATA", name, "--BATCH_SIZE", "32", "--MAX_STEPS", str(arguments.MAX_STEPS)]
    return [
        ["prepareDatasets.py", "--DATA", arguments.DATA, *columns],
        ["train.py", *judge, *flags_of("lm"), *budget],
        ["train.py", *experiment, *flags_of("nvib"), *budget],
        ["sample.py", *experiment, "--NUMBER_SAMPLES", str(arguments.NUMBER_SAMPLES), "--DECODING", "sample"],
        ["reverseSampleEvaluation.py", *judged],  # R-PPL, which the report of quality has from it
        ["quality.py", *judged],
    ]


def main() -> None:
    """Run the steps one after the other; the first that fails ends it with its status."""
    arguments = parse()
    minutes = run_in_order(steps(arguments))
    folder = Path("outputs") / PROJECT / dataset_name(arguments.DATA)
    print(f"\nsynthetic text and its quality are in {folder}; it took {minutes:.1f} minutes")


def _given(arguments: argparse.Namespace, flag: str) -> list[str]:
    value = getattr(arguments, flag)
    return [] if value is None else [f"--{flag}", value]


if __name__ == "__main__":
    cli.run(main)
