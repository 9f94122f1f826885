"""Run the main job of the suite on the embedded Wikipedia sample, from text to the final screen: `make demo`.

    python -m pipeline demo

The demo has no flags. Each step is one of the scripts, run as you would type it.
"""

import argparse
import textwrap
from pathlib import Path

from pipeline.cli.parser import Parser
from pipeline.recipes.demo import EXPECTATION, PROJECT, RUNS, SAMPLED, steps
from pipeline.recipes.runner import run_in_order


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of the recipe, which has no flags."""
    return Parser(description).parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Run the steps in order, and print one screen. The first step that fails ends the demo with its exit status."""
    minutes = run_in_order(steps())
    from pipeline.reporting.one_screen import WIDTH, one_screen

    print(f"\n{one_screen(Path('outputs'), PROJECT, list(RUNS), SAMPLED)}\n\n{textwrap.fill(EXPECTATION, WIDTH)}")
    print(f"\nthe whole demo took {minutes:.1f} minutes")
