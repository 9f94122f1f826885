"""The main job on the embedded Wikipedia sample, from text to the final table: what `make demo` runs.

    python demo.py

It has no flags: each step is one of the numbered scripts, run as you would type it.
"""

from pipeline.cli import parser as cli
from pipeline.recipes.paper import flags_of
from pipeline.recipes.scripts import run_in_order

PROJECT = "demo"
DATA = "wikipedia-sample"
EXPERIMENTS = {"vanillaTransformer": "t", "nvib": "nvib"}  # by the names that the paper's runs have
TRAINING = ("--BATCH_SIZE", "32", "--MAX_STEPS", "1000")


def steps() -> list[list[str]]:
    """The commands of the demo, in order."""
    commands = [["prepareDatasets.py", "--DATA", DATA]]
    for name, run in EXPERIMENTS.items():
        commands.append(["train.py", *_experiment(name), *flags_of(run), "--DATA", DATA, *TRAINING])
    commands.append(["sample.py", *_experiment("nvib")])
    for name in EXPERIMENTS:
        commands.append(["reconstruction.py", *_experiment(name)])
        commands.append(["interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True", *_experiment(name)])
    commands.append(["report.py", "--PROJECT_NAME", PROJECT, "--EXPERIMENTS", *EXPERIMENTS])
    return commands


def main() -> None:
    """Run the steps one after the other; the first that fails ends the demo with its status."""
    cli.Parser(__doc__).parse_args()
    print(f"\nthe whole demo took {run_in_order(steps()):.1f} minutes")


def _experiment(name: str) -> list[str]:
    return ["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", name]


if __name__ == "__main__":
    cli.run(main)
