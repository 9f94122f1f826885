"""Command of upload.py: upload an experiment to Weights & Biases."""

import argparse

from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    add_experiment_options(parser)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Upload an experiment and print the address of its page."""
    if arguments.WANDB_ENTITY is None:
        raise UserError("--WANDB_ENTITY must name the user or team of Weights & Biases to upload to")

    from pipeline.experiments.config import read_config
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, upload

    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    check_login(arguments.WANDB_ENTITY)
    files.claim()
    print(f"uploaded to {upload(files, config, arguments.WANDB_ENTITY)}")
