"""Interpolate between pairs of validation sentences and score what lies between.

    python interpolation_evaluation.py --RUN_INTERPOLATIONS True --EXPERIMENT_NAME nvib
    python interpolation_evaluation.py --RUN_INTERPOLATIONS False --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm

The second scores what the first wrote, and the fluency of the novel outputs with a language model.

Writes interpolations.jsonl and interpolation_examples.txt beside the model, and figures into summary.json.
"""

from pipeline.cli import entry, interpolation_command

if __name__ == "__main__":
    entry.run_script(__doc__, interpolation_command)
