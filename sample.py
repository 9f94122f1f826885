"""Generate new sentences from a trained model's prior.

    python sample.py --EXPERIMENT_NAME nvib
    python sample.py --EXPERIMENT_NAME nvib --NUMBER_SAMPLES 1000 --DECODING sample --TOP_P 0.9
    python sample.py --EXPERIMENT_NAME lm --DECODING sample      (without a latent, only drawn tokens differ)

Writes samples.txt (a sentence a line) and samples.jsonl (text, drawn length, tokens generated) beside the model, and
how varied, new and long the samples are into summary.json, beside the same of as many real held-out sentences.
"""

import argparse

from pipeline import cli, kinds
from pipeline.errors import UserError

LONGEST = 10_000  # tokens of a sample, at most


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = cli.Parser(__doc__, together=True)
    cli.add_experiment_options(parser)
    group = parser.add_argument_group("sampling")
    group.add_argument("--NUMBER_SAMPLES", type=kinds.integer(1, 10**7), default=200, help="sentences to generate")
    group.add_argument(
        "--SAMPLING_DISTRIBUTION",
        choices=("data", "uniform"),
        default="data",
        help="where lengths are drawn from: the training set's, or evenly from MIN_LENGTH to MAX_LENGTH",
    )
    group.add_argument(
        "--MIN_LENGTH",
        type=kinds.integer(1, LONGEST),
        help="shortest length drawn, in tokens with the end token (default: the training set's)",
    )
    group.add_argument(
        "--MAX_LENGTH",
        type=kinds.integer(1, LONGEST),
        help="longest length drawn, in tokens with the end token (default: the training set's)",
    )
    group.add_argument(
        "--SEED", type=kinds.integer(0, 2**32 - 1), default=42, help="seed of lengths, latents and tokens"
    )
    cli.add_decoding_options(parser)
    arguments = parser.parse_args()
    low, high = arguments.MIN_LENGTH, arguments.MAX_LENGTH
    if low is not None and high is not None and low > high:
        raise UserError(f"--MIN_LENGTH {low} is above --MAX_LENGTH {high}; no length is left to draw")
    for name in ("TEMPERATURE", "TOP_P"):
        if arguments.DECODING == "greedy" and getattr(arguments, name) != 1.0:
            raise UserError(f"--{name} means nothing for --DECODING greedy; leave it out, or take --DECODING sample")
    return arguments


def main() -> None:
    """Parse, sample, report."""
    arguments = parse()
    from pipeline.experiments import load_experiment
    from pipeline.files import write_jsonl, write_text
    from pipeline.tracking import check_login, tracking

    check_login(arguments.WANDB_ENTITY)
    experiment = load_experiment(
        arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME, arguments.DATA_DIR
    )
    experiment.files.claim()

    import torch

    from models.decoding import Choose, greedy, nucleus
    from pipeline.diversity import text_figures
    from pipeline.generation import LengthRange, sample
    from pipeline.judging import tokenized
    from pipeline.report import beside_real_text
    from pipeline.team import is_first

    def choose_with(generator: torch.Generator) -> Choose:
        drawn = arguments.DECODING == "sample"
        return nucleus(arguments.TEMPERATURE, arguments.TOP_P, generator) if drawn else greedy

    lengths = LengthRange(arguments.SAMPLING_DISTRIBUTION, arguments.MIN_LENGTH, arguments.MAX_LENGTH)
    rows = sample(
        experiment, arguments.NUMBER_SAMPLES, lengths, arguments.SEED, choose_with, arguments.GENERATION_BATCH_SIZE
    )
    if not is_first():
        return  # of several processes the first writes and speaks
    text_file = experiment.files.samples.with_suffix(".txt")
    write_jsonl(experiment.files.samples, rows)
    write_text(text_file, "".join(row["text"] + "\n" for row in rows))
    split = tokenized([row["text"] for row in rows], experiment.data)
    held_out = experiment.data.splits["validation"]
    held_out = held_out.select(range(min(len(rows), len(held_out))))
    own, real = (text_figures(sentences, experiment.data) for sentences in (split, held_out))
    figures = {
        **{f"samples/{name}": value for name, value in own.items()},
        **{f"samples/{name}_of_real_text": value for name, value in real.items()},
        "samples/count": len(rows),
        "samples/mean_length": sum(row["tokens_generated"] for row in rows) / len(rows),
        "samples/mean_drawn_length": sum(row["drawn_length"] for row in rows) / len(rows),
    }
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        tracker.log_samples()
        tracker.summarise(figures)
    for row in rows[:10]:
        print(f"  {row['text']}")
    print(beside_real_text(own, real))
    print(
        f"{len(rows)} sentences, {figures['samples/mean_length']:.1f} tokens on average "
        f"({figures['samples/mean_drawn_length']:.1f} drawn), written to {text_file} and {experiment.files.samples}"
    )


if __name__ == "__main__":
    cli.run(main)
