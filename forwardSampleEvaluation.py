"""Score generated sentences with a language model: forward perplexity, the fluency of samples, and MAUVE.

    python train.py --EXPERIMENT_NAME lm --MODEL LM
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 5000
    python forwardSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm
    python forwardSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL bundled       (a judge not trained here)

Writes samples/forward_perplexity into summary.json, and beside it the perplexities of real held-out text and of
unigrams (tokens drawn independently of each other) for comparison.

Writes samples/mauve, how near samples lie to real text in the features of the language model, from 0 to 1, beside the
same figure of real text, the ceiling, and of unigrams. Each text has samples/mauve_count sentences: 5,000, all samples,
or half of the training split, whichever is least. Values compare only for equal counts and the same language model.
samples/semantic_mauve is the same in the vectors of the sentence encoder MiniLM, where make pretrained installs it.

A pretrained judge (bundled, a folder, or a name on the hub) reads the texts as they are. Its figures compare across
tokenizers: samples/pretrained_word_perplexity is exp(nats / words), where white space divides words,
samples/pretrained_bits_per_character is nats / ln 2 / characters, and samples/pretrained_forward_perplexity is
exp(nats / tokens of the judge). A text follows the start token that the judge's tokenizer adds, or else a line break,
and its end is not scored. Real text and unigrams are as many as the samples, at most 1,000 each. An experiment of the
same name has precedence.
"""

from pipeline.cli import entry, forward_command

if __name__ == "__main__":
    entry.run_script(__doc__, forward_command)
