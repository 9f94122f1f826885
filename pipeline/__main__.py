"""Run a recipe: `python -m pipeline demo | synth | paper | rates`."""

import sys

from pipeline.cli import demo_command, entry, paper_command, rates_command, synth_command

RECIPES: dict[str, entry.Command] = {
    "demo": demo_command,
    "synth": synth_command,
    "paper": paper_command,
    "rates": rates_command,
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in RECIPES:
        sys.exit(entry.report(f"error: name a recipe: python -m pipeline {' | '.join(RECIPES)}", 2))
    sys.argv[:2] = [name]
    entry.run_script(RECIPES[name].__doc__, RECIPES[name])
