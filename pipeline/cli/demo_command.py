"""Run the main job of the suite on the embedded Wikipedia sample, from text to the final table: `make demo`.

    python -m pipeline demo

The demo has no flags. Each step is one of the scripts, run as you would type it.
"""

import argparse

from pipeline.cli.parser import Parser
from pipeline.recipes.demo import steps
from pipeline.recipes.runner import run_in_order


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of the recipe, which has no flags."""
    return Parser(description).parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Run the steps in order. The first step that fails ends the demo with its exit status."""
    print(f"\nthe whole demo took {run_in_order(steps()):.1f} minutes")
