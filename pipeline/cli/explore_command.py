"""Command of explore.py: serve a page that looks inside a model."""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_experiment_options
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    add_experiment_options(parser, logged=False)
    group = parser.add_argument_group("page")
    group.add_argument(
        "--COMPARE_WITH",
        type=types.name,
        help="experiment of the project that the page shows beside it (default: none)",
    )
    group.add_argument(
        "--HOST",
        type=types.address,
        default="127.0.0.1",
        help="address of the page: the default serves this machine alone, 0.0.0.0 the whole network",
    )
    group.add_argument("--PORT", type=types.integer(1, 65535), default=7860, help="port of the page")
    arguments = parser.parse_args()
    if arguments.COMPARE_WITH == arguments.EXPERIMENT_NAME:
        raise UserError(f"--COMPARE_WITH {arguments.COMPARE_WITH} is --EXPERIMENT_NAME itself; name another experiment")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Load the models and serve the page until it is interrupted."""
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.generation.trained_model import TrainedModel
    from pipeline.reporting.explorer_page import build, require_free, serve

    models = {}
    for name in filter(None, (arguments.EXPERIMENT_NAME, arguments.COMPARE_WITH)):
        files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name)
        models[name] = TrainedModel.from_experiment(files.folder, arguments.DATA_DIR)
    require_free(arguments.HOST, arguments.PORT)

    def ready(address: str) -> None:
        print(f"{' and '.join(models)} at {address} (Ctrl+C ends it)", flush=True)

    serve(build(models), arguments.HOST, arguments.PORT, ready)
