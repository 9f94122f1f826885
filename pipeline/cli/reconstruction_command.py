"""Command of reconstruction.py: reconstruct a split and score the reconstructions."""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import (
    Parser,
    add_batch_option,
    add_experiment_options,
    add_reading_option,
    add_subset_option,
)


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("reconstruction")
    add_subset_option(group, "split to reconstruct")
    group.add_argument(
        "--IMPORTANCE_SAMPLES",
        type=types.integer(0),
        default=0,
        help="draws of the latent for each sentence, for the evidence lower bound and the importance-weighted bound "
        "in nats a sentence, of a model with known densities, such as VTV; 0 leaves the bounds out",
    )
    add_reading_option(group)
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Reconstruct a split, write the reconstructions and print their scores."""
    from pipeline.evaluation.bleu import reconstruction_figures
    from pipeline.evaluation.likelihood import likelihood_bounds
    from pipeline.experiments.load import load_experiment
    from pipeline.experiments.metrics import under_reading
    from pipeline.experiments.tracker import check_login, tracking
    from pipeline.generation.generate import reconstruct, shortest_text, subset_batches
    from pipeline.generation.latents import unsupported_as_user_error
    from pipeline.reporting.console import on_one_line
    from pipeline.runtime.files import write_jsonl
    from pipeline.runtime.processes import is_first
    from pipeline.training.validation import evaluate

    check_login(arguments.WANDB_ENTITY)
    experiment = load_experiment(
        arguments.OUTPUT_DIR,
        arguments.PROJECT_NAME,
        arguments.EXPERIMENT_NAME,
        arguments.DATA_DIR,
        arguments.READING,
    )
    experiment.files.claim()
    subset, size, samples = arguments.DATA_SUBSET, arguments.GENERATION_BATCH_SIZE, arguments.IMPORTANCE_SAMPLES
    bounds = {}
    if samples:
        with unsupported_as_user_error():
            experiment.model.log_importance_weights(*shortest_text(experiment))
        batches = subset_batches(experiment, subset, size, f"bounds {subset}")
        bounds = likelihood_bounds(experiment.model, batches, experiment.device, samples)
        bounds["importance_samples"] = samples
    rows = reconstruct(experiment, subset, size)
    batches = subset_batches(experiment, subset, size, f"perplexity {subset}")
    means = evaluate(experiment.model, batches, experiment.device, experiment.data.tokenizer.sep_id)
    if not is_first():
        return  # only rank 0 writes files and logs
    path = experiment.files.result(f"reconstruction_{subset}.jsonl", experiment.reading)
    write_jsonl(path, rows)
    found = means | reconstruction_figures(rows, means["perplexity"]) | bounds
    figures = {f"{subset}/{name}": value for name, value in found.items()}
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(under_reading(figures, experiment.reading))
    for row in rows[:5]:
        print(f"  {on_one_line(row['source'])}\n  -> {on_one_line(row['reconstruction'])}\n")
    if bounds:
        print(
            f"{subset}: evidence lower bound {bounds['elbo']:.1f}, importance-weighted bound "
            f"{bounds['importance_weighted_bound']:.1f} nats a sentence ({samples} draws)"
        )
    of_reading = f", reading {experiment.reading}" if experiment.reading else ""
    bleu, signature = found["reconstruction_bleu"], found["reconstruction_bleu_signature"]
    print(
        f"{subset}{of_reading}: BLEU {bleu:.2f} ({signature}), perplexity {means['perplexity']:.3f}, vectors kept "
        f"{means['vectors_kept']:.1f} ({means['vectors_kept_fraction']:.0%}), {len(rows)} sentences, written to {path}"
    )
