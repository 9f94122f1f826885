"""Command of regularisation.py: show what a nonparametric bottleneck keeps."""

import argparse

from pipeline.cli.parser import Parser, add_batch_option, add_experiment_options, add_subset_option

PREFIX = "regularisation/"  # of its figures


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    add_experiment_options(parser)
    group = parser.add_argument_group("regularisation")
    add_subset_option(group, "split whose sentences are encoded and shown")
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Encode a split, draw what the bottleneck keeps, and print its figures."""
    import numpy as np

    from pipeline.evaluation.bottleneck import alpha_by_token, read_bottleneck, regularisation_figures
    from pipeline.evaluation.diversity import Tokens
    from pipeline.experiments.load import load_experiment
    from pipeline.experiments.tracker import check_login, read_summary, tracking
    from pipeline.generation.generate import require_latent, subset_batches
    from pipeline.reporting.bottleneck_page import draw_alpha_by_frequency, draw_alpha_by_token, draw_kept, shaded_page
    from pipeline.runtime.errors import UserError
    from pipeline.runtime.files import write_csv, write_text

    check_login(arguments.WANDB_ENTITY)
    experiment = load_experiment(
        arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME, arguments.DATA_DIR
    )
    experiment.files.claim()
    subset, data = arguments.DATA_SUBSET, experiment.data
    if require_latent(experiment).posterior is None:
        raise UserError(
            f"{experiment.model.settings.name} has no pseudo-counts that would say what it keeps; use a model with a "
            "nonparametric bottleneck (--MODEL NVIB)"
        )
    batches = subset_batches(experiment, subset, arguments.GENERATION_BATCH_SIZE, f"encode {subset}")
    bottleneck = read_bottleneck(experiment.model, batches)
    train = data.splits["train"]
    frequency = np.bincount(Tokens.of(train).ids, minlength=data.tokenizer.vocabulary_size)
    frequency[data.tokenizer.sep_id] = len(train)  # the end token, which `Tokens` leaves out
    figures = regularisation_figures(bottleneck, frequency)
    by_token = alpha_by_token(bottleneck)
    name_of = data.tokenizer.name
    names = [name_of(index) for index, _, _ in by_token]

    folder = experiment.files.folder
    draw_kept(bottleneck, folder / "regularisation_kept.png")
    draw_alpha_by_token(by_token, names, folder / "regularisation_tokens.png")
    draw_alpha_by_frequency(bottleneck, frequency, folder / "regularisation_frequency.png")
    rows = [(name, count, f"{mean:.6g}") for name, (_, count, mean) in zip(names, by_token, strict=True)]
    write_csv(folder / "regularisation_tokens.csv", ("token", "occurrences", "mean_pseudo_count"), rows)
    page = shaded_page(
        bottleneck,
        [name_of(int(index)) for index in bottleneck.tokens],
        getattr(experiment.model.settings, "alpha_threshold", 0.0),
        f"{arguments.EXPERIMENT_NAME}: what is kept of the {subset} split",
    )
    write_text(folder / "regularisation_sentences.html", page)
    earlier = {name: value for name, value in read_summary(experiment.files).items() if name.startswith(PREFIX)}
    of_subset = {PREFIX + name: value for name, value in {**figures, "subset": subset}.items()}
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(of_subset, outdated=earlier)
    if (replaced := earlier.get(f"{PREFIX}subset", subset)) != subset:
        print(f"the figures of the {subset} split replace those of the {replaced} split in {experiment.files.summary}")
    for name, value in figures.items():
        print(f"  {name}: {value:.3f}")
    print(f"{len(bottleneck.kept)} sentences, written to {folder}/regularisation_*")
