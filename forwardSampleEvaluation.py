"""Score generated sentences with a language model: forward perplexity, the fluency of samples.

    python train.py --EXPERIMENT_NAME lm --MODEL LM
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 5000
    python forwardSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm

Writes samples/forward_perplexity into summary.json, and beside it that of real held-out text: what good is.
"""

import argparse

from pipeline.cli import parser as cli


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__, together=True)
    cli.add_experiment_options(parser)
    group = parser.add_argument_group("judge")
    cli.add_judge_option(group, required=True)
    cli.add_subset_option(group, "split of real text that is scored beside the samples")
    cli.add_batch_option(group)
    return parser.parse_args()


def main() -> None:
    """Parse, score, report."""
    arguments = parse()
    from pipeline.evaluation.judge import figure_name, load_judge, perplexity, tokenized_samples
    from pipeline.experiments.config import ExperimentFiles, read_config
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
        return  # of several processes the first writes and speaks
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise({name: own, f"{name}_of_real_text": real, f"{name}_judge": arguments.LANGUAGE_MODEL})
    print(
        f"{name}: {own:.2f} of {len(rows)} samples, {real:.2f} of real text ({subset}), "
        f"under {arguments.LANGUAGE_MODEL}"
    )


if __name__ == "__main__":
    cli.run(main)
