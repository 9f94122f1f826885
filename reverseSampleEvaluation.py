"""Train a language model on generated sentences and score real ones: reverse perplexity, the coverage of samples.

    python reverseSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm
    python reverseSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm --DATA_SUBSET test

The model has the settings of --LANGUAGE_MODEL and is not saved. Writes <subset>/reverse_perplexity into summary.json,
and beside it the perplexities of models trained on as many real sentences and on as many unigrams (tokens drawn
independently of each other) for comparison. Those two models are trained once for a judge and a number of sentences.
"""

from pipeline.cli import entry, reverse_command

if __name__ == "__main__":
    entry.run_script(__doc__, reverse_command)
