"""Command of reverseSampleEvaluation.py: perplexity of real text under a model trained on samples."""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_batch_option, add_experiment_options, add_judge_option, add_subset_option


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    add_experiment_options(parser)
    group = parser.add_argument_group("judge")
    add_judge_option(group, required=True)
    add_subset_option(group, "split of real text that is scored")
    group.add_argument(
        "--MAX_STEPS", type=types.integer(1), help="largest number of optimizer steps (default: that of the judge)"
    )
    group.add_argument(
        "--PATIENCE",
        type=types.limit,
        default=3,
        help="epochs without a better loss on real validation text after which training stops; -1 for no limit",
    )
    group.add_argument("--SEED", type=types.integer(0, 2**32 - 1), help="seed of the training (default: the judge's)")
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Train models on the samples, on real text and on unigrams, score them on real text, and print perplexities."""
    from pipeline.evaluation.controls import real_text_control, unigram_control
    from pipeline.evaluation.judge import (
        figure_name,
        judge_settings,
        judged_by,
        load_judge,
        perplexity,
        require_experiment,
        tokenized_samples,
        train_judge,
    )
    from pipeline.experiments.config import read_config
    from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, check_samples, fingerprint, tracking
    from pipeline.generation.generate import read_samples

    require_experiment(
        arguments.OUTPUT_DIR,
        arguments.PROJECT_NAME,
        arguments.LANGUAGE_MODEL,
        "reverse perplexity trains a model with the settings of its judge",
    )
    check_login(arguments.WANDB_ENTITY)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    files.claim()
    rows = read_samples(files)
    judge = load_judge(
        arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL, arguments.DATA_DIR, config
    )
    check_samples(files, rows)
    data, subset, size = judge.data, arguments.DATA_SUBSET, arguments.GENERATION_BATCH_SIZE
    training = judge_settings(judge, arguments.MAX_STEPS, arguments.PATIENCE, arguments.SEED)
    name = f"{subset}/{figure_name(judge, 'reverse_perplexity')}"
    model = train_judge(judge, tokenized_samples(rows, data), training)
    own = perplexity(model, data.splits[subset], data, size, subset)
    control = real_text_control(judge, len(rows), training, size)
    unigrams = unigram_control(judge, len(rows), training, size)
    figures = {
        name: own,
        name + REAL_TEXT: control[subset],
        name + UNIGRAMS: unigrams[subset],
        f"{name}_sentences": len(rows),
        f"{name}_sentences{REAL_TEXT}": control["count"],  # fewer where the training split has fewer
        f"{name}_steps": training.max_steps,
        f"{name}_samples": fingerprint([row["text"] for row in rows]),
        **judged_by(judge, name),
    }
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(figures)
    print(
        f"{name}: {own:.2f} after training on {len(rows)} samples, {control[subset]:.2f} after training on "
        f"{control['count']} real sentences, {unigrams[subset]:.2f} after training on {unigrams['count']} "
        f"unigrams, with the settings of {arguments.LANGUAGE_MODEL}"
    )
