"""Upload an experiment to Weights & Biases from its own files: one that was logged offline, or whose page failed.

    python upload.py --EXPERIMENT_NAME nvib --WANDB_ENTITY someone

The files contain everything that the page shows. A page that exists already is completed.
"""

from pipeline.cli import entry, upload_command

if __name__ == "__main__":
    entry.run_script(__doc__, upload_command)
