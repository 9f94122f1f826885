"""Interpolate between pairs of validation sentences and score the texts between them.

    python interpolation_evaluation.py --RUN_INTERPOLATIONS True --EXPERIMENT_NAME nvib
    python interpolation_evaluation.py --RUN_INTERPOLATIONS False --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm

The second command scores the outputs that the first wrote, and the fluency of the novel ones with a language model.

Writes interpolations.jsonl and interpolation_examples.txt beside the model, and figures into summary.json.
"""

from pipeline.cli import entry, interpolation_command

if __name__ == "__main__":
    entry.run_script(__doc__, interpolation_command)
