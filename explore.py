"""Look inside a trained model: a page on this machine, with two sentences and what lies between them.

    python explore.py --EXPERIMENT_NAME nvib
    python explore.py --EXPERIMENT_NAME nvib --COMPARE_WITH vanillaTransformer

Shows the text at any τ, each token shaded by its pseudo-count α and the vectors kept at any threshold, the attention
from each generated token to the latent's vectors, and samples from the prior. Only this machine can open it unless
--HOST says otherwise. It writes nothing, and asks nothing of any other machine. Ctrl+C ends it.
"""

import argparse

from pipeline.cli import parser as cli
from pipeline.cli import types as kinds
from pipeline.runtime.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__)
    cli.add_experiment_options(parser, logged=False)
    group = parser.add_argument_group("page")
    group.add_argument(
        "--COMPARE_WITH",
        type=kinds.name,
        help="experiment of the project that is shown beside it (default: none)",
    )
    group.add_argument(
        "--HOST",
        type=kinds.address,
        default="127.0.0.1",
        help="address that is listened on: the default is this machine's alone, 0.0.0.0 lets the whole network in",
    )
    group.add_argument("--PORT", type=kinds.integer(1, 65535), default=7860, help="port that is listened on")
    arguments = parser.parse_args()
    if arguments.COMPARE_WITH == arguments.EXPERIMENT_NAME:
        raise UserError(f"--COMPARE_WITH {arguments.COMPARE_WITH} is --EXPERIMENT_NAME itself; name another experiment")
    return arguments


def main() -> None:
    """Parse, load, serve."""
    arguments = parse()
    from pipeline.experiments.config import ExperimentFiles
    from pipeline.generation.trained_model import TrainedModel

    models = {}
    for name in filter(None, (arguments.EXPERIMENT_NAME, arguments.COMPARE_WITH)):
        files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name)
        models[name] = TrainedModel.from_experiment(files.folder, arguments.DATA_DIR)
    from pipeline.reporting.explorer_page import build, require_free, serve

    require_free(arguments.HOST, arguments.PORT)

    def ready(address: str) -> None:
        print(f"{' and '.join(models)} at {address} (Ctrl+C ends it)", flush=True)

    serve(build(models), arguments.HOST, arguments.PORT, ready)


if __name__ == "__main__":
    cli.run(main)
