"""Show experiments of a project side by side.

python report.py --PROJECT_NAME nvib
python report.py --PROJECT_NAME nvib --EXPERIMENTS vanillaTransformer nvib
"""

import argparse
from pathlib import Path

from pipeline import cli


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--PROJECT_NAME", type=cli.name, default="nvib", help="project whose experiments are shown")
    parser.add_argument(
        "--EXPERIMENTS", type=cli.name, nargs="+", help="names of the experiments, in order (default: all)"
    )
    parser.add_argument("--OUTPUT_DIR", type=Path, default=Path("outputs"), help="folder that holds all projects")
    return parser.parse_args()


def main() -> None:
    """Parse, gather, print."""
    arguments = parse()
    from pipeline.experiments import ExperimentFiles, experiment_names, read_config
    from pipeline.files import read_json
    from pipeline.report import files_written, side_by_side

    names = arguments.EXPERIMENTS or experiment_names(arguments.OUTPUT_DIR, arguments.PROJECT_NAME)
    summaries, folders = {}, []
    for name in names:
        files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name)
        read_config(files)
        summaries[name] = read_json(files.summary, f"finish train.py --EXPERIMENT_NAME {name}")
        folders.append(files.folder)
    print(side_by_side(summaries))
    for folder in folders:
        print(f"\n{folder}:\n{files_written(folder)}")


if __name__ == "__main__":
    cli.run(main)
