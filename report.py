"""Gather experiments of a project into the paper's tables and figures, across seeds.

    python report.py --PROJECT_NAME nvib
    python report.py --PROJECT_NAME nvib --EXPERIMENTS vanillaTransformer nvib
    python report.py --PROJECT_NAME nvib --FROM_WANDB me/nvib

Experiments that differ in nothing but their seed are one row: mean ± standard deviation. Writes report.md, a CSV and a
LaTeX file a table, and figures (.png, .pdf) into outputs/<PROJECT_NAME>/report/.
"""

from pipeline.cli import entry, report_command

if __name__ == "__main__":
    entry.run_script(__doc__, report_command)
