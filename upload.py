"""Upload an experiment to Weights & Biases from its own files: one that was logged offline, or whose page failed.

    python upload.py --EXPERIMENT_NAME nvib --WANDB_ENTITY someone

The files hold everything; a page that is there already is completed.
"""

import argparse

from pipeline.cli import parser as cli
from pipeline.runtime.errors import UserError


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__)
    cli.add_experiment_options(parser)
    return parser.parse_args()


def main() -> None:
    """Parse, upload."""
    arguments = parse()
    if arguments.WANDB_ENTITY is None:
        raise UserError("--WANDB_ENTITY says where to upload to: a user or team of Weights & Biases")
    from pipeline.experiments.config import ExperimentFiles, read_config
    from pipeline.experiments.tracker import check_login, upload

    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    check_login(arguments.WANDB_ENTITY)
    files.claim()
    print(f"uploaded to {upload(files, config, arguments.WANDB_ENTITY)}")


if __name__ == "__main__":
    cli.run(main)
