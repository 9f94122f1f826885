"""Tune a model's settings on the validation split, across seeds.

    python tune.py --MODEL NVIB --TRIALS 20 --SEEDS 1 2 3 --DATA wikitext2 --MAX_STEPS 2000
    python train.py --EXPERIMENT_NAME tuned --CONFIG outputs/tuning/best-NVIB-wikitext2.json

A trial trains one model for every seed. Its objective, which is minimised, is the mean over seeds of

    validation cross-entropy + KL_GAUSSIAN_WEIGHT * KL_G + KL_DIRICHLET_WEIGHT * KL_D

at the best epoch. A trial above the median of earlier trials is pruned. Each setting declares its tuning range, in
models/settings.py and pipeline/experiments/training_settings.py; a setting that is given as a flag is fixed. The same
command resumes a study that was stopped, and several processes with one --STORAGE share the work. A project has one
study for each model and dataset. Writes into outputs/<PROJECT_NAME>/: best-<MODEL>-<DATA>.json,
sweep-<MODEL>-<DATA>.yaml (the same search for wandb), study.db, and one experiment for every trial and seed. At its
end, the command evaluates the best trial so far on the test split, and no other.
"""

from pipeline.cli import entry, tune_command

if __name__ == "__main__":
    entry.run_script(__doc__, tune_command)
