"""Command of forwardSampleEvaluation.py: perplexity of samples under a language model, and MAUVE."""

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
    """Score the samples, real text and unigrams, and print perplexities and MAUVE."""
    from pipeline.evaluation.controls import unigram_sentences
    from pipeline.evaluation.judge import figure_name, load_judge, perplexity, tokenized_samples
    from pipeline.evaluation.mauve import LEAST, SEMANTIC, mauve_figures, semantic_mauve_figures
    from pipeline.evaluation.sentence_encoder import ABSENT, load_encoder
    from pipeline.experiments.config import read_config
    from pipeline.experiments.metric_types import CONTROLS, REAL_TEXT, UNIGRAMS
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
    figures = {name: own, name + REAL_TEXT: real, name + UNIGRAMS: unigrams, f"{name}_judge": arguments.LANGUAGE_MODEL}
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(figures | mauve)
    print(
        f"{name}: {own:.2f} of {len(rows)} samples, {real:.2f} of real text ({subset}), {unigrams:.2f} of unigrams, "
        f"under {arguments.LANGUAGE_MODEL}"
    )
    for key in (like, SEMANTIC):
        if key not in mauve:
            print(f"{key}: not measured; {ABSENT}")
        elif mauve[key] is None:
            print(f"{key}: not measured; it needs {LEAST} samples and twice as many training sentences")
        else:
            beside = ", ".join(f"{mauve[key + suffix]:.3f} of {text}" for suffix, text in CONTROLS.items())
            print(
                f"{key}: {mauve[key]:.3f} ± {mauve[f'{key}_deviation']:.3f} (seeds of k-means) of "
                f"{mauve[f'{key}_count']} samples, {beside}; compare it for equal counts alone"
            )
