"""Score generated sentences with a language model: forward perplexity, the fluency of samples.

    python train.py --EXPERIMENT_NAME lm --MODEL LM
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 5000
    python forwardSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm

Writes samples/forward_perplexity into summary.json, and beside it the perplexity of real held-out text for comparison.
"""

from pipeline.cli import entry, forward_command

if __name__ == "__main__":
    entry.run_script(__doc__, forward_command)
