"""Show which vectors a nonparametric bottleneck keeps of held-out sentences.

    python regularisation.py --EXPERIMENT_NAME nvib
    python regularisation.py --EXPERIMENT_NAME nvib --DATA_SUBSET test

Writes regularisation_kept, regularisation_tokens and regularisation_frequency (.png, .pdf), regularisation_tokens.csv
and regularisation_sentences.html beside the model, and regularisation/ figures into summary.json.
"""

from pipeline.cli import entry, regularisation_command

if __name__ == "__main__":
    entry.run_script(__doc__, regularisation_command)
