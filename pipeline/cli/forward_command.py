"""Command of forwardSampleEvaluation.py: perplexity of samples under a language model, and MAUVE."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from pipeline.cli.parser import Parser, add_batch_option, add_experiment_options, add_judge_option, add_subset_option


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("judge")
    add_judge_option(group, required=True, pretrained=True)
    add_subset_option(group, "split of real text that is scored beside the samples")
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Score the samples, real text and unigrams, and print perplexities and MAUVE."""
    from pipeline.evaluation.judge import is_experiment

    if is_experiment(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL):
        _judge_by_experiment(arguments)
    else:
        _judge_by_pretrained(arguments)


def _judge_by_experiment(arguments: argparse.Namespace) -> None:
    """Score with the model of an experiment, which knows the tokens of the data."""
    from pipeline.evaluation.controls import unigram_sentences
    from pipeline.evaluation.judge import figure_name, judged_by, load_judge, perplexity, tokenized_samples
    from pipeline.evaluation.mauve import SEMANTIC, mauve_figures, semantic_mauve_figures
    from pipeline.evaluation.sentence_encoder import load_encoder
    from pipeline.experiments.config import read_config
    from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, check_samples, tracking
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
    check_samples(files, rows)
    data, subset, size = judge.data, arguments.DATA_SUBSET, arguments.GENERATION_BATCH_SIZE
    name = f"samples/{figure_name(judge, 'forward_perplexity')}"
    samples = tokenized_samples(rows, data)
    own = perplexity(judge.model, samples, data, size, "samples")
    real = perplexity(judge.model, data.splits[subset], data, size, f"real text, {subset}")
    unigrams = perplexity(judge.model, unigram_sentences(data, len(rows)), data, size, "unigrams")
    if not is_first():
        return  # only rank 0 writes files and logs
    like = f"samples/{figure_name(judge, 'mauve')}"
    mauve = mauve_figures(judge, samples, like, size)
    encoder = load_encoder()
    if encoder is not None:
        mauve |= semantic_mauve_figures(encoder, data, samples, size)
    figures = {name: own, name + REAL_TEXT: real, name + UNIGRAMS: unigrams, f"{name}_subset": subset}
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(figures | judged_by(judge, name) | mauve)
    print(
        f"{name}: {own:.2f} of {len(rows)} samples, {real:.2f} of real text ({subset}), {unigrams:.2f} of unigrams, "
        f"under {arguments.LANGUAGE_MODEL}"
    )
    _print_mauve(mauve, (like, SEMANTIC))


def _judge_by_pretrained(arguments: argparse.Namespace) -> None:
    """Score with a pretrained model that no run of this suite trained; MAUVE is over vectors of MiniLM alone."""
    from pipeline.evaluation.judge import tokenized_samples
    from pipeline.evaluation.judged_samples import family_warning, judged_samples, load_base_judge
    from pipeline.evaluation.mauve import SEMANTIC, semantic_mauve_figures
    from pipeline.evaluation.sentence_encoder import load_encoder
    from pipeline.experiments.config import read_config
    from pipeline.experiments.load import load_data
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import check_login, check_samples, tracking
    from pipeline.generation.generate import read_samples
    from pipeline.runtime.processes import is_first

    check_login(arguments.WANDB_ENTITY)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    files.claim()
    rows, data = read_samples(files), load_data(files, config, arguments.DATA_DIR)
    judge = load_base_judge(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL)
    check_samples(files, rows)
    if is_first() and (warning := family_warning(config, judge)):
        print(warning, file=sys.stderr)
    size = arguments.GENERATION_BATCH_SIZE
    figures, lines = judged_samples(judge, rows, data, arguments.DATA_SUBSET, size)
    if not is_first():
        return  # only rank 0 writes files and logs
    encoder = load_encoder()
    mauve = {} if encoder is None else semantic_mauve_figures(encoder, data, tokenized_samples(rows, data), size)
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(figures | mauve)
    print("\n".join(lines))
    _print_mauve(mauve, (SEMANTIC,))


def _print_mauve(mauve: Mapping[str, float | int | None], keys: Sequence[str]) -> None:
    """Print MAUVE under each key beside that of the controls, or the reason why it was not measured."""
    from pipeline.evaluation.mauve import LEAST
    from pipeline.evaluation.sentence_encoder import ABSENT
    from pipeline.experiments.metric_types import CONTROLS

    for key in keys:
        if key not in mauve:
            print(f"{key}: not measured; {ABSENT}")
        elif mauve[key] is None:
            print(f"{key}: not measured; it needs {LEAST} samples and twice as many training sentences")
        else:
            controls = {text: mauve[key + suffix] for suffix, text in CONTROLS.items()}
            beside = ", ".join(f"{value:.3f} of {text}" for text, value in controls.items() if value is not None)
            print(
                f"{key}: {mauve[key]:.3f} ± {mauve[f'{key}_deviation']:.3f} (seeds of k-means) of "
                f"{mauve[f'{key}_count']} samples, {beside}; compare it for equal counts alone"
            )
