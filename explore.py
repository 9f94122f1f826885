"""Look inside a trained model: a page on this machine, with two sentences and what lies between them.

    python explore.py --EXPERIMENT_NAME nvib
    python explore.py --EXPERIMENT_NAME nvib --COMPARE_WITH vanillaTransformer

Shows the text at any τ, each token shaded by its pseudo-count α and the vectors kept at any threshold, the attention
from each generated token to the latent's vectors, and samples from the prior. Only this machine can open it unless
--HOST says otherwise. It writes nothing, and asks nothing of any other machine. Ctrl+C ends it.
"""

from pipeline.cli import entry, explore_command

if __name__ == "__main__":
    entry.run_script(__doc__, explore_command)
