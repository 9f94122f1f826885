"""Reconstruct held-out sentences and score the reconstructions.

    python reconstruction.py --EXPERIMENT_NAME nvib
    python reconstruction.py --EXPERIMENT_NAME nvib --DATA_SUBSET test

Writes reconstruction_<subset>.jsonl beside the model, and BLEU and perplexity into summary.json.
"""

import argparse

from pipeline import cli


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__)
    cli.add_experiment_options(parser)
    group = parser.add_argument_group("reconstruction")
    cli.add_subset_option(group, "split to reconstruct")
    cli.add_batch_option(group)
    return parser.parse_args()


def main() -> None:
    """Parse, reconstruct, report."""
    arguments = parse()
    from pipeline.experiments import load_experiment
    from pipeline.files import write_jsonl
    from pipeline.tracking import check_login, tracking

    check_login(arguments.WANDB_ENTITY)
    experiment = load_experiment(
        arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME, arguments.DATA_DIR
    )
    from pipeline.evaluation import evaluate
    from pipeline.generation import reconstruct, subset_batches
    from pipeline.metrics import corpus_bleu

    subset = arguments.DATA_SUBSET
    batches = subset_batches(experiment, subset, arguments.GENERATION_BATCH_SIZE, f"perplexity {subset}")
    means = evaluate(experiment.model, batches, experiment.device, experiment.data.tokenizer.sep_id)
    rows = reconstruct(experiment, subset, arguments.GENERATION_BATCH_SIZE)
    path = experiment.files.folder / f"reconstruction_{subset}.jsonl"
    write_jsonl(path, rows)
    bleu, signature = corpus_bleu([row["reconstruction"] for row in rows], [row["source"] for row in rows])
    figures = {
        **{f"{subset}/{name}": value for name, value in means.items()},
        f"{subset}/reconstruction_bleu": bleu,
        f"{subset}/reconstruction_bleu_signature": signature,
        f"{subset}/reconstruction_perplexity": means["perplexity"],
        f"{subset}/reconstruction_exact_fraction": sum(row["exact"] for row in rows) / len(rows),
    }
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(figures)
    for row in rows[:5]:
        print(f"  {row['source']}\n  -> {row['reconstruction']}\n")
    print(
        f"{subset}: BLEU {bleu:.2f} ({signature}), perplexity {means['perplexity']:.3f}, vectors kept "
        f"{means['vectors_kept']:.1f} ({means['vectors_kept_fraction']:.0%}), {len(rows)} sentences, written to {path}"
    )


if __name__ == "__main__":
    cli.run(main)
