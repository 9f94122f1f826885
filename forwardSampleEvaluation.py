"""Score generated sentences with a language model: forward perplexity, the fluency of samples, and MAUVE.

    python train.py --EXPERIMENT_NAME lm --MODEL LM
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 5000
    python forwardSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm

Writes samples/forward_perplexity into summary.json, and beside it the perplexities of real held-out text and of
unigrams (tokens drawn independently of each other) for comparison.

Writes samples/mauve, how near samples lie to real text in the features of the language model, from 0 to 1, beside the
same figure of real text, the ceiling, and of unigrams. Each text has samples/mauve_count sentences: 5,000, all samples,
or half of the training split, whichever is least. Values compare only for equal counts and the same language model.
samples/semantic_mauve is the same in the vectors of the sentence encoder MiniLM, if make pretrained has installed it.
"""

from pipeline.cli import entry, forward_command

if __name__ == "__main__":
    entry.run_script(__doc__, forward_command)
