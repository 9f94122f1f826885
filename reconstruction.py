"""Reconstruct held-out sentences and score the reconstructions.

    python reconstruction.py --EXPERIMENT_NAME nvib
    python reconstruction.py --EXPERIMENT_NAME nvib --DATA_SUBSET test
    python reconstruction.py --EXPERIMENT_NAME nvib --READING draws 8
    python reconstruction.py --EXPERIMENT_NAME vtv --IMPORTANCE_SAMPLES 32

Writes reconstruction_<subset>.jsonl beside the model, and BLEU and perplexity into summary.json.
"""

from pipeline.cli import entry, reconstruction_command

if __name__ == "__main__":
    entry.run_script(__doc__, reconstruction_command)
