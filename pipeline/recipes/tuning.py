"""Tune the settings of a model across seeds with Optuna: trials, pruning, and the results that are kept."""

from typing import Any

import optuna
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState

from pipeline.evaluation.bleu import reconstruction_figures
from pipeline.experiments.base import build_model
from pipeline.experiments.config import new_config, write_config
from pipeline.experiments.load import load_experiment
from pipeline.experiments.tracker import tracking
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.generation.generate import reconstruct, subset_batches
from pipeline.recipes.search_space import suggest, sweep_parameters
from pipeline.recipes.study import DONE, FAILURE, RUNS, Tuning, alone, best_trial, ended, open_study
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json, write_record, write_text
from pipeline.runtime.locks import release
from pipeline.runtime.signals import Interrupted
from pipeline.training.trainer import Trainer
from pipeline.training.validation import evaluate


class FailedError(UserError):
    """Error of a failed trial. The study continues with the next trial."""


def tune(tuning: Tuning, storage: str | None, trials: int, batch_size: int) -> None:
    """Run a study up to a number of trials, write its results, and print each of them.

    Args:
        tuning: settings of the study.
        storage: URL of its database; None for `study.db` in the project's folder.
        trials: number of trials at the end, those of all processes.
        batch_size: sentences that are evaluated together on the test split.

    Raises:
        UserError: if the study cannot be opened, or no trial is complete.
    """
    if storage is None:
        tuning.folder.mkdir(parents=True, exist_ok=True)
        storage = f"sqlite:///{(tuning.folder / 'study.db').resolve()}"
    with alone(tuning):  # two processes that create the tables of a new database at once would disturb each other
        study = open_study(tuning, storage)
    write_sweep(tuning)
    run_trials(tuning, study, trials)
    with alone(tuning):
        config = write_best(tuning, study)
        found = config["found_by"]
        print(f"best: trial {found['trial']}, objective {found['value']:.4f}; {config['model']}, {config['training']}")
        tested = test_best(tuning, study, batch_size)
    for seed in tuning.seeds:
        if seed not in tested:
            print(f"  seed {seed}: its model is not in {tuning.folder}; the process that trained it tests it")
    for seed, figures in tested.items():
        bleu = figures.get("test/reconstruction_bleu")
        shown = "" if bleu is None else f", BLEU {bleu:.2f}"
        print(f"  seed {seed}, test: perplexity {figures['test/perplexity']:.3f}{shown}")
    print(f"written to {tuning.best} (train.py --CONFIG {tuning.best}) and {tuning.sweep}")
    lengths = {name: config["training"].get(name) for name in ("epochs", "max_steps", "patience")}
    if given := [f"--{name.upper()} {value}" for name, value in lengths.items() if value is not None]:
        print(f"the file has {' '.join(given)}, as the trials had; train.py takes others from the command line")


def run_trials(tuning: Tuning, study: optuna.Study, trials: int) -> None:
    """Run trials until the study has `trials` of them, those of other processes counted."""

    def after(study: optuna.Study, trial: FrozenTrial) -> None:
        value = "" if trial.value is None else f", objective {trial.value:.4f}"
        reason = f" ({trial.user_attrs[FAILURE]})" if FAILURE in trial.user_attrs else ""
        print(f"trial {trial.number}: {trial.state.name.lower()}{value}{reason}; {trial.params}", flush=True)
        with alone(tuning):
            drop_weights(tuning, study)

    def objective(trial: optuna.Trial) -> float:
        # The seed depends on the trial's number. With one seed for all, processes that start together would propose the
        # same trials, and a continued study would propose those that it has.
        study.sampler = optuna.samplers.TPESampler(seed=tuning.seeds[0] + trial.number)
        try:
            return _run(tuning, trial)
        except Interrupted as stop:
            # Optuna counts it as failed, and would draw other settings for the trial that comes in its place.
            study.enqueue_trial(trial.params)
            again = f"trial {trial.number} was stopped; the same command tries its settings anew"
            raise Interrupted(stop.number, again) from None
        finally:
            release()  # before another process can find that this trial is the best, and test it

    while len(ended(study)) < trials:
        study.optimize(objective, n_trials=1, catch=(FailedError,), callbacks=[after])


def drop_weights(tuning: Tuning, study: optuna.Study) -> None:
    """Remove the checkpoints of all ended trials but the best, because those of many trials would fill a disk."""
    over = [trial for trial in study.get_trials(deepcopy=False) if trial.state in DONE]
    ended = [trial for trial in over if trial.state == TrialState.COMPLETE]
    values = {trial.number: trial.value for trial in ended if trial.value is not None}
    best = min(values, key=values.__getitem__) if values else None
    for trial in over:
        for files in tuning.experiments(trial):
            files.latest.unlink(missing_ok=True)
            if trial.number != best:
                files.best.unlink(missing_ok=True)


def write_best(tuning: Tuning, study: optuna.Study) -> dict[str, Any]:
    """Write the configuration of the best trial for `train.py --CONFIG`, and return it.

    Raises:
        UserError: if no trial is complete.
    """
    best = best_trial(study)
    model, training = tuning.split(best.params)
    config = {
        "model": {"name": tuning.settings.name, **tuning.model_fields, **model},
        "training": {**tuning.training_fields, **training},
        "found_by": {
            "trial": best.number,
            "trials": len(ended(study)),
            "value": best.value,
            "value_is": "validation cross-entropy + gaussian * KL_G + dirichlet * KL_D, mean over seeds",
            **tuning.setup(),
        },
    }
    write_json(tuning.best, config)
    return config


def test_best(tuning: Tuning, study: optuna.Study, batch_size: int) -> dict[int, dict[str, float | int | str | None]]:
    """Evaluate the models of the best trial on the test split, and add the figures to their summaries.

    No other trial is evaluated on the test split.

    Returns:
        Figures by seed, of the models in this project's folder. A process with another folder tests its own models when
        it ends.
    """
    tested: dict[int, dict[str, float | int | str | None]] = {}
    for files in tuning.experiments(best_trial(study)):
        files.claim()
        experiment = load_experiment(tuning.output_dir, tuning.project, files.folder.name, tuning.data_dir)
        batches = subset_batches(experiment, "test", batch_size, "test")
        means = evaluate(experiment.model, batches, experiment.device, experiment.data.tokenizer.sep_id)
        figures: dict[str, float | int | str | None] = {f"test/{name}": value for name, value in means.items()}
        # A language model has no latent to reconstruct from; its perplexity is its only figure.
        if experiment.model.settings.sees_target:
            scored = reconstruction_figures(reconstruct(experiment, "test", batch_size), means["perplexity"])
            figures |= {f"test/{name}": value for name, value in scored.items()}
        with tracking(files, experiment.config, tuning.entity) as tracker:
            tracker.summarise(figures)
        tested[experiment.config["training"]["seed"]] = figures
    return tested


def write_sweep(tuning: Tuning) -> None:
    """Write the same search as a wandb sweep, whose agent runs train.py."""
    parameters = sweep_parameters(tuning.space)
    fixed = {"MODEL": tuning.settings.name, "DATA": tuning.data_name, "PROJECT_NAME": tuning.project}
    fixed |= {"DATA_DIR": str(tuning.data_dir), "OUTPUT_DIR": str(tuning.output_dir)}
    fixed |= {name.upper(): value for name, value in (tuning.model_fields | tuning.training_fields).items()}
    parameters |= {name: {"value": value} for name, value in fixed.items()}
    parameters["SEED"] = {"values": list(tuning.seeds)}
    sweep = {
        "program": "train.py",
        "method": "bayes",
        "metric": {"name": "validation/cross_entropy", "goal": "minimize"},
        "early_terminate": {"type": "hyperband", "min_iter": 2},
        "command": [
            *("${env}", "${interpreter}", "${program}"),
            *("--EXPERIMENT_NAME", "${envvar:WANDB_RUN_ID}"),
            *("--WANDB_ENTITY", tuning.entity or "${envvar:WANDB_ENTITY}"),
            "${args}",
        ],
        "parameters": parameters,
    }
    head = (
        f"# The search space of tune.py --MODEL {tuning.settings.name} as a sweep of Weights & Biases:\n"
        f"#   wandb sweep {tuning.sweep}    and then, with WANDB_ENTITY set,    wandb agent <its output>\n"
        "# A sweep minimises one metric of one run: the cross-entropy, each seed by itself. tune.py adds the KL.\n"
    )
    write_text(tuning.sweep, head + yaml.safe_dump(sweep, sort_keys=False))


def _run(tuning: Tuning, trial: optuna.Trial) -> float:
    """Train the models of a trial, one seed after the other, and return the mean objective of their best epochs.

    Raises:
        FailedError: if training fails.
        UserError: if another study has experiments with the names of this trial.
    """
    model_fields, training_fields = tuning.split(suggest(trial, tuning.space))
    values: list[float] = []
    runs: dict[str, str] = {}
    reports = 0

    def report(row: dict[str, float]) -> None:
        nonlocal reports
        # A later seed reports the mean with the earlier seeds, so that trials are compared at equal steps.
        trial.report(sum([*values, tuning.weights.value(row)]) / (len(values) + 1), step=reports)
        reports += 1
        if trial.should_prune():
            raise optuna.TrialPruned

    for seed in tuning.seeds:
        files = tuning.files(trial.number, seed)
        files.claim()
        if files.config.exists():  # no other trial of this study has this number
            raise tuning.refusal(files.folder)
        try:
            settings = tuning.settings(
                vocabulary_size=tuning.data.tokenizer.vocabulary_size, **tuning.model_fields, **model_fields
            )
            training = TrainingSettings(**tuning.training_fields, **training_fields, seed=seed)
            config = new_config(settings, training, tuning.data_name, tuning.data.identity)
            runs[str(seed)] = config["wandb_id"]
            trial.set_user_attr(RUNS, runs)
            write_config(files, config)
            torch.manual_seed(seed)
            pruned = False
            with tracking(files, config, tuning.entity) as tracker:
                trainer = Trainer(build_model(settings), tuning.data, training, files, tracker, after_epoch=report)
                try:
                    figures = trainer.train()
                    values.append(tuning.weights.value(figures))
                    tracker.summarise({**figures, "objective": values[-1]})
                except optuna.TrialPruned:  # caught here, so that wandb does not mark the run as failed
                    pruned = True
            if pruned:
                write_record(
                    files.failure, {"reason": f"pruned after {reports} epochs: above the median of the trials"}
                )
                raise optuna.TrialPruned
        except UserError as error:
            trial.set_user_attr(FAILURE, str(error))
            write_record(files.failure, {"reason": str(error)})
            raise FailedError(str(error)) from None
    return sum(values) / len(values)
