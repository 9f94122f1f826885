"""Train a model on prepared data.

    python train.py --EXPERIMENT_NAME vanillaTransformer
    python train.py --EXPERIMENT_NAME nvib --MODEL NVIB
    python train.py --EXPERIMENT_NAME lm --MODEL LM

The same command resumes a run that was stopped. Writes outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>/:
config.json, metrics.jsonl (one line per epoch), summary.json, best.safetensors, latest.safetensors.
"""

from pipeline.cli import entry, train_command

if __name__ == "__main__":
    entry.run_script(__doc__, train_command)
