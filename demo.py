"""The main job on the embedded Wikipedia sample, from text to the final table: what `make demo` runs.

    python demo.py

It has no flags: each step is one of the numbered scripts, run as you would type it.
"""

import subprocess
import sys
import time
from pathlib import Path

from pipeline import cli

PROJECT = "demo"
DATA = "wikipedia-sample"
EXPERIMENTS = {"vanillaTransformer": "T", "nvib": "NVIB"}
TRAINING = ("--EPOCHS", "3")


def steps() -> list[list[str]]:
    """The commands of the demo, in order."""
    commands = [["prepareDatasets.py", "--DATA", DATA]]
    for name, model in EXPERIMENTS.items():
        commands.append(["train.py", *_experiment(name), "--MODEL", model, "--DATA", DATA, *TRAINING])
    commands.append(["sample.py", *_experiment("nvib")])
    for name in EXPERIMENTS:
        commands.append(["reconstruction.py", *_experiment(name)])
        commands.append(["interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True", *_experiment(name)])
    commands.append(["report.py", "--PROJECT_NAME", PROJECT, "--EXPERIMENTS", *EXPERIMENTS])
    return commands


def main() -> None:
    """Run the steps one after the other; the first that fails ends the demo with its status."""
    cli.Parser(__doc__).parse_args()
    started = time.monotonic()
    commands = steps()
    for number, command in enumerate(commands, start=1):
        print(f"\n[{number}/{len(commands)}] python {' '.join(command)}", flush=True)
        finished = subprocess.run([sys.executable, *command], cwd=Path(__file__).parent, check=False)
        if finished.returncode:
            sys.exit(finished.returncode)
    print(f"\nthe whole demo took {(time.monotonic() - started) / 60:.1f} minutes")


def _experiment(name: str) -> list[str]:
    return ["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", name]


if __name__ == "__main__":
    cli.run(main)
