"""Tune a model's settings on the validation split, across seeds.

    python tune.py --MODEL NVIB --TRIALS 20 --SEEDS 1 2 3 --DATA wikitext2 --MAX_STEPS 2000
    python train.py --EXPERIMENT_NAME tuned --CONFIG outputs/tuning/best-NVIB-wikitext2.json

A trial trains a model for every seed. Its objective, the lower the better, is the mean over seeds of

    validation cross-entropy + KL_GAUSSIAN_WEIGHT * KL_G + KL_DIRICHLET_WEIGHT * KL_D

at the best epoch; a trial above the median of those before it is pruned. The spaces are in
pipeline/recipes/search_space.py;
a setting that is given here is fixed. The same command goes on where it was stopped, and several processes with one
--STORAGE share the work. A project has one study of a model on a dataset. Writes into outputs/<PROJECT_NAME>/:
best-<MODEL>-<DATA>.json, sweep-<MODEL>-<DATA>.yaml (the same search for wandb), study.db, and an experiment for every
trial and seed. Only the best is evaluated on the test split.
"""

from pipeline.cli import entry, tune_command

if __name__ == "__main__":
    entry.run_script(__doc__, tune_command)
