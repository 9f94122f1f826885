"""Command of forwardSampleEvaluation.py: perplexity of samples under a language model."""

import argparse

from pipeline.cli.parser import Parser, add_batch_option, add_experiment_options, add_judge_option, add_subset_option


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("judge")
    add_judge_option(group, required=True)
    add_subset_option(group, "split of real text that is scored beside the samples")
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Score the samples and real text, and print both perplexities."""
    from pipeline.evaluation.judge import figure_name, load_judge, perplexity, tokenized_samples
    from pipeline.experiments.config import read_config
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, tracking
    from pipeline.generation.generate import read_samples
    from pipeline.runtime.processes import is_first

    check_login(arguments.WANDB_ENTITY)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    files.claim()
    rows = read_samples(files)
    judge = load_judge(
        arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL, arguments.DATA_DIR, config
    )
    data, subset, size = judge.data, arguments.DATA_SUBSET, arguments.GENERATION_BATCH_SIZE
    name = f"samples/{figure_name(judge, 'forward_perplexity')}"
    own = perplexity(judge.model, tokenized_samples(rows, data), data, size, "samples")
    real = perplexity(judge.model, data.splits[subset], data, size, f"real text, {subset}")
    if not is_first():
        return  # only rank 0 writes files and logs
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise({name: own, f"{name}_of_real_text": real, f"{name}_judge": arguments.LANGUAGE_MODEL})
    print(
        f"{name}: {own:.2f} of {len(rows)} samples, {real:.2f} of real text ({subset}), "
        f"under {arguments.LANGUAGE_MODEL}"
    )
