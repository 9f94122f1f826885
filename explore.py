"""Look inside a trained model: a local web page with two sentences and the texts between them.

    python explore.py --EXPERIMENT_NAME nvib
    python explore.py --EXPERIMENT_NAME nvib --COMPARE_WITH vanillaTransformer

The page shows the text at any τ, each token shaded by its pseudo-count α, the vectors kept at any threshold, the
attention from each generated token to the latent's vectors, and samples from the prior. Only this machine can open it,
unless --HOST allows others. The script writes no files and contacts no other machine. Ctrl+C ends it.
"""

from pipeline.cli import entry, explore_command

if __name__ == "__main__":
    entry.run_script(__doc__, explore_command)
