"""Fit the learned prior of a trained autoencoder, which stays as it is.

    python train_prior.py --EXPERIMENT_NAME nvib
    python train_prior.py --EXPERIMENT_NAME nvib --FROM lm                a language model that is trained already
    python sample.py --EXPERIMENT_NAME nvib --PRIOR learned --PRIOR_TOP_P 0.95

The prior is a language model of the same data: it imagines a text, whose posterior the latent is drawn from. Around a
causal base, it is the same base with adapters; beside an encoder-decoder, a language model of its sizes. The same
command resumes a run that was stopped. Writes outputs/<PROJECT_NAME>/<EXPERIMENT_NAME>/prior/, with the files of an
experiment.
"""

from pipeline.cli import entry, train_prior_command

if __name__ == "__main__":
    entry.run_script(__doc__, train_prior_command)
