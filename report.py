"""Collect the experiments of a project in the tables and figures of the paper, across seeds.

    python report.py --PROJECT_NAME nvib
    python report.py --PROJECT_NAME nvib --EXPERIMENTS vanillaTransformer nvib
    python report.py --PROJECT_NAME nvib --FROM_WANDB me/nvib

Experiments that differ only in their seed share one row: mean ± standard deviation. Writes report.md, a CSV and a LaTeX
file for each table, and figures (.png, .pdf) into outputs/<PROJECT_NAME>/report/.
"""

from pipeline.cli import entry, report_command

if __name__ == "__main__":
    entry.run_script(__doc__, report_command)
