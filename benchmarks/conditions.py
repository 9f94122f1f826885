"""Measure what conditions add to the processor time of sampling rows of a table.

    python -m benchmarks.conditions --DATA penguins.csv --FOLDER conditions

Prepares a CSV file, trains a language model of its rows, and samples in one process by each kind of condition in turn.
Prints the median over the rounds of the ratio to sampling without conditions, with the smallest and the largest ratio,
as a Markdown table. The conditions are on the table's first column of categories and its first of numbers.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.doc_facts import table as as_table
from benchmarks.machine import processor
from benchmarks.script_runs import run_script
from models.sampling import SamplingSettings
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.ordered_column import NUMBERS
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation.sampler import sample_with
from pipeline.recipes.synth import of_rows
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_text

NAME, PROJECT = "rows", "conditions"
WARM_UP = 1  # rounds that are not counted


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("measurement")
    group.add_argument("--DATA", type=Path, required=True, help="CSV file of the table")
    group.add_argument("--FOLDER", type=types.folder, default=Path("conditions"), help="prepared data and experiment")
    group.add_argument("--ROUNDS", type=types.integer(1, 1000), default=7, help="rounds, each of all conditions")
    group.add_argument("--ROWS", type=types.integer(2, 10**6), default=1024, help="rows of each sample")
    group.add_argument("--MAX_STEPS", type=types.integer(1), default=300, help="optimizer steps of the model")
    return parser.parse_args()


def trained(data: Path, folder: Path, steps: int) -> Experiment:
    """Prepare the table and train a language model of its rows, once for a folder."""
    places = ("--DATA_DIR", folder / "data")
    run_script("prepareDatasets.py", "--DATA", data, "--ROW_TEMPLATE", "--NAME", NAME, *places)
    outputs = ("--DATA", NAME, *places, "--OUTPUT_DIR", folder / "outputs", "--PROJECT_NAME", PROJECT)
    flags = ("--EXPERIMENT_NAME", NAME, "--MODEL", "LM", *of_rows(0), "--MAX_STEPS", steps)
    run_script("train.py", *flags, *outputs)
    return load_experiment(folder / "outputs", PROJECT, NAME, folder / "data")


def kinds_of(experiment: Experiment, folder: Path, rows: int) -> dict[str, dict[str, Any]]:
    """Return the settings of each kind of sampling, by its name.

    Raises:
        UserError: the table has no column of categories, or none of numbers.
    """
    columns: Mapping[str, Any] = experiment.data.statistics["source"]["columns"]
    category = next((name for name, one in columns.items() if one["kind"] == "category"), None)
    number = next((name for name, one in columns.items() if one["kind"] in NUMBERS), None)
    if category is None or number is None:
        raise UserError("the table needs a column of categories and one of numbers; name another with --DATA")
    member, low, high = columns[category]["values"][0], columns[number]["low"], columns[number]["high"]
    one = f"`{number}` > {(low + high) / 2}"
    two = f"{one} and `{category}` = '{member}'"
    texts = experiment.data.splits["train"]["text"]
    read = experiment.data.tokenizer.template.values  # pyright: ignore[reportAttributeAccessIssue] rows of a table
    known = [read(texts[place % len(texts)]) for place in range(rows)]
    incomplete = folder / "incomplete.csv"
    with open(incomplete, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([category, number])
        writer.writerows([row[category], ""] for row in known)
    write_text(folder / "rules.json", json.dumps([{"where": one}, {"where": f"`{category}` = '{member}'"}]))
    return {
        "none": {},
        f"--WHERE, one column ({number})": {"where": one},
        f"--WHERE, two columns (and {category})": {"where": two},
        "--CONSTRAINTS with the same": {"constraints": str(folder / "rules.json")},
        f"--BALANCE {category}": {"balance": category},
        f"--IMPUTE ({category} given)": {"impute": str(incomplete)},
    }


def main() -> None:
    """Measure and print the table."""
    arguments = parse()
    folder = arguments.FOLDER.resolve()
    experiment = trained(arguments.DATA.resolve(), folder, arguments.MAX_STEPS)
    kinds = kinds_of(experiment, folder, arguments.ROWS)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(WARM_UP + arguments.ROUNDS):
        for name, own in kinds.items():
            settings = SamplingSettings(number_samples=arguments.ROWS, seed=number, decoding="sample", **own)
            started = time.process_time()
            sample_with(experiment, settings, 256)
            if number >= WARM_UP:
                seconds[name].append(time.process_time() - started)
    rows = []
    for name, own in seconds.items():
        ratios = [value / base for value, base in zip(own, seconds["none"], strict=True)]
        ends = f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append([name, f"{statistics.median(own):.2f}", f"{statistics.median(ratios):.2f}", ends])
    print(f"\n{arguments.ROWS:,} rows, {arguments.ROUNDS} rounds; {processor()}\n")
    print(as_table(["condition", "seconds", "ratio, median", "ratios"], rows))


if __name__ == "__main__":
    run(main)
