"""Generate new sentences with a trained model: from its prior, around a sentence, or between several.

    python sample.py --EXPERIMENT_NAME nvib
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 1000 --DECODING sample --TOP_P 0.9
    python sample.py --EXPERIMENT_NAME nvib --DECODING sample --NOVEL True
    python sample.py --EXPERIMENT_NAME nvib --NEAR "the river is long." --LATENT_TEMPERATURE 0.5
    python sample.py --EXPERIMENT_NAME nvib --MIX "the river is long." "a king was born." --WEIGHTS 0.7 0.3
    python sample.py --EXPERIMENT_NAME lm --DECODING sample      (without a latent, only drawn tokens differ)

Writes samples.txt (one sentence per line) and samples.jsonl (text, source of its latent, tokens generated) beside the
model. Writes figures of the variety, novelty and length of the samples into summary.json, and beside them the same
figures of as many real held-out sentences and of as many unigrams, whose tokens are drawn independently of each other.

Counts the samples that are training texts, apart from case and white space at their ends, and those that have 8 words
in a row of a training text, beside as many held-out texts. Of the values of a table's row, those of free text are
searched for such words. --NOVEL True draws again in place of both kinds, in at most 10 rounds, and counts what is left.

Where latents are drawn from the prior and tokens are drawn too, the first 100 draws are decoded twice. The BLEU between
two decodings of one draw (samples/same_draw_bleu), beside that between decodings of different draws, says how much of a
sample the latent decides. At most twice as much, and the decoder ignores its draws, as a language model does.
"""

from pipeline.cli import entry, sample_command

if __name__ == "__main__":
    entry.run_script(__doc__, sample_command)
