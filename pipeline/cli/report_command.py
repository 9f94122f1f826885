"""Command of report.py: tables and plots of the experiments of a project."""

import argparse
from pathlib import Path

from pipeline.cli import types
from pipeline.cli.parser import Parser

FEW = 6  # largest number of experiments printed side by side


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    parser.add_argument("--PROJECT_NAME", type=types.name, default="nvib", help="project whose experiments are shown")
    parser.add_argument(
        "--EXPERIMENTS",
        type=types.name,
        nargs="+",
        action=types.Distinct,
        help="names of the experiments, in order (default: all)",
    )
    parser.add_argument(
        "--OUTPUT_DIR", type=types.folder, default=Path("outputs"), help="folder that holds all projects"
    )
    parser.add_argument(
        "--FROM_WANDB",
        type=types.OrNone(types.wandb_project),
        default=None,
        help="ENTITY/PROJECT of Weights & Biases whose runs are gathered too; an experiment that is also in "
        "--OUTPUT_DIR is read from there (default: none)",
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Gather the figures of the experiments, write tables and plots, and print a summary."""
    from pipeline.experiments.config import read_config
    from pipeline.experiments.paths import ExperimentFiles, experiment_names, names_in
    from pipeline.experiments.tracker import api
    from pipeline.reporting.console import files_written, side_by_side
    from pipeline.reporting.curves import write_figures
    from pipeline.reporting.judges import incomparable
    from pipeline.reporting.results import from_outputs, from_wandb, grouped
    from pipeline.reporting.tables import write_experiments, write_tables
    from pipeline.runtime.errors import UserError

    project = arguments.OUTPUT_DIR / arguments.PROJECT_NAME
    if arguments.FROM_WANDB is None:
        for name in arguments.EXPERIMENTS or ():
            read_config(ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name))
        names = arguments.EXPERIMENTS or experiment_names(arguments.OUTPUT_DIR, arguments.PROJECT_NAME)
        results, failures = from_outputs(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, names)
    else:
        theirs, failures = from_wandb(arguments.FROM_WANDB, arguments.EXPERIMENTS, api())
        names = [name for name in names_in(project) if arguments.EXPERIMENTS is None or name in arguments.EXPERIMENTS]
        results, own_failures = from_outputs(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, names)
        results += [result for result in theirs if result.name not in names]
        failures = own_failures + [failure for failure in failures if failure.name not in names]
    if not results:
        reasons = "; ".join(f"{failure.name}: {failure.reason}" for failure in failures)
        raise UserError(f"no experiment of {arguments.PROJECT_NAME} has figures yet ({reasons or 'there is none'})")

    folder = project / "report"
    groups = grouped(results)
    page = write_tables(folder, groups, failures, write_figures(folder, groups))
    write_experiments(folder / "experiments.csv", results)
    if len(results) <= FEW:
        print(side_by_side({result.name: result.figures for result in results}))
        for line in incomparable(results):
            print(line)
        for failure in failures:
            print(f"{failure.name}: {failure.reason}")
        for path in [project / result.name for result in results]:
            if path.exists():
                print(f"\n{path}:\n{files_written(path)}")
    else:
        print(page)
    print(f"\n{folder}:\n{files_written(folder)}")
