"""Compare the readings of trained models: what the decoder of NVIB attends to in evaluation.

    python -m benchmarks.compared_readings --EXPERIMENTS n30 n60 --ALPHA_THRESHOLDS 0.1 1 10
    python -m benchmarks.compared_readings --EXPERIMENTS n30 --READINGS plug-in draws-8 --BLEU_SENTENCES 0
    python -m benchmarks.compared_readings --EXPERIMENTS n30 --READINGS plug-in integral --LATENT_TEMPERATURES 0.5 1

For every experiment, threshold and reading: cross-entropy and perplexity of the validation split, and BLEU of some of
its sentences, decoded greedily. The reference is one draw without a threshold, as in training. An experiment of a model
without readings has one row, for example a T for its BLEU. A latent temperature adds a row for each threshold and
reading: BLEU of texts that are decoded from one draw with that noise, in place of the mean latent. Writes readings.json
into the project's folder, or the file of --RESULTS, after every experiment; the rows of other experiments in it stay.
The experiments are unchanged.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from models.settings import NVAESettings
from models.text_model import Noise
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser, add_batch_option, add_project_options, add_subset_option
from pipeline.data.batches import Batch, in_order, loader
from pipeline.evaluation.bleu import reconstruction_figures
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation.generate import reconstructed, require_latent
from pipeline.runtime.files import read_json, write_json
from pipeline.training.validation import evaluate

AS_TRAINED = "one draw, as in training"
READINGS = ("integral", "no-prior", "plug-in", "draws-1", "draws-8")
SEED = 1  # of the draws at a latent temperature
COLUMNS = ("cross_entropy", "perplexity", "reconstruction_bleu", "reconstruction_exact_fraction")
COLUMNS += ("vectors_kept_fraction", "rate")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    add_project_options(parser, logged=False)
    group = parser.add_argument_group("readings")
    group.add_argument(
        "--EXPERIMENTS", type=types.name, nargs="+", action=types.Distinct, required=True, help="experiments to measure"
    )
    group.add_argument(
        "--READINGS", type=types.reading, nargs="+", action=types.Distinct, default=READINGS, help="readings to compare"
    )
    group.add_argument(
        "--ALPHA_THRESHOLDS",
        type=types.number(0),
        nargs="+",
        action=types.Distinct,
        help="pseudo-counts below which a vector is dropped (default: the threshold of each experiment)",
    )
    group.add_argument(
        "--LATENT_TEMPERATURES",
        type=types.number(0),
        nargs="+",
        action=types.Distinct,
        default=(),
        help="noise of draws whose BLEU is measured too, with as many sentences: 0 is the mean latent, 1 the posterior",
    )
    group.add_argument(
        "--BLEU_SENTENCES",
        type=types.integer(0),
        default=200,
        help="sentences, from the split's first, that are decoded for BLEU; 0 leaves BLEU out",
    )
    group.add_argument(
        "--RESULTS", type=Path, help="file for the rows (default: readings.json in the project's folder)"
    )
    add_subset_option(group, "split to measure")
    add_batch_option(group)
    arguments = parser.parse_args()
    if arguments.LATENT_TEMPERATURES and not arguments.BLEU_SENTENCES:
        parser.error("BLEU of draws needs sentences to decode; leave --LATENT_TEMPERATURES or --BLEU_SENTENCES 0 out")
    return arguments


def variants(
    experiment: Experiment, readings: Sequence[str], thresholds: Sequence[float] | None
) -> Iterator[tuple[str | None, float | None, Experiment]]:
    """Yield name of the reading, threshold and experiment for every row; both are None for a model without readings."""
    settings = experiment.model.settings
    if not isinstance(settings, NVAESettings):
        yield None, None, experiment
        return
    yield AS_TRAINED, 0.0, experiment.with_settings(reading="draws-1", alpha_threshold=0.0)
    for threshold in thresholds or (settings.alpha_threshold,):
        for reading in readings:
            yield reading, threshold, experiment.with_settings(reading=reading, alpha_threshold=threshold)


def measure(experiment: Experiment, subset: str, size: int, sentences: int) -> dict[str, Any]:
    """Compute the figures of a split.

    Args:
        experiment: model and data.
        subset: split to measure.
        size: sentences of a batch.
        sentences: number of sentences that are decoded for BLEU; 0 for none.
    """
    device, count = experiment.device, len(experiment.data.splits[subset])
    batches = batches_of(experiment, subset, size, count)
    found: dict[str, Any] = evaluate(experiment.model, batches, device, experiment.data.tokenizer.sep_id)
    if not sentences:
        return found
    batches = batches_of(experiment, subset, size, min(sentences, count))
    rows = [row for batch in batches for row in reconstructed(experiment, batch.to(device))]
    return found | reconstruction_figures(rows, found["perplexity"]) | {"bleu_sentences": len(rows)}


@torch.inference_mode()
def measure_draws(experiment: Experiment, subset: str, size: int, sentences: int, temperature: float) -> dict[str, Any]:
    """Compute the figures of a split's first sentences, each decoded from one draw of its posterior.

    Args:
        experiment: model and data.
        subset: split to measure.
        size: sentences of a batch.
        sentences: number of sentences.
        temperature: noise of the draw.
    """
    device, count = experiment.device, len(experiment.data.splits[subset])
    generator, noise = torch.Generator(device).manual_seed(SEED), Noise(temperature=temperature)
    rows: list[dict[str, Any]] = []
    for batch in batches_of(experiment, subset, size, min(sentences, count)):
        batch = batch.to(device)
        encoding = experiment.model.encode(batch.source, batch.key_padding_mask)
        rows += reconstructed(experiment, batch, experiment.model.sample_posterior(encoding, generator, noise))
    figures = reconstruction_figures(rows, math.nan)  # the perplexity is not that of a draw
    return {name: value for name, value in figures.items() if name in COLUMNS} | {"bleu_sentences": len(rows)}


def batches_of(experiment: Experiment, subset: str, size: int, count: int) -> Iterable[Batch]:
    """Yield the first `count` sentences of a split in batches of `size`."""
    data = experiment.data
    return loader(data.splits[subset], in_order(count, size), data.tokenizer.pad_id, experiment.device)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    names = ("experiment", "reading", "alpha_threshold", "latent_temperature", *COLUMNS)
    lines = [f"| {' | '.join(names)} |", "| --- | --- |" + " ---: |" * (len(names) - 2)]
    for row in rows:
        cells = (row.get(name) for name in names)
        shown = ("" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every experiment and write the rows."""
    arguments = parse()
    path = arguments.RESULTS or arguments.OUTPUT_DIR / arguments.PROJECT_NAME / "readings.json"
    rows: list[dict[str, Any]] = (
        read_json(path, "remove it, or name another file with --RESULTS") if path.exists() else []
    )
    for name in arguments.EXPERIMENTS:
        places = arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name, arguments.DATA_DIR
        experiment = load_experiment(*places)
        require_latent(experiment)
        new: list[dict[str, Any]] = []
        for reading, threshold, variant in variants(experiment, arguments.READINGS, arguments.ALPHA_THRESHOLDS):
            sizes = arguments.GENERATION_BATCH_SIZE, arguments.BLEU_SENTENCES
            found = measure(variant, arguments.DATA_SUBSET, *sizes)
            about = {"experiment": name, "split": arguments.DATA_SUBSET}
            about |= {"reading": reading, "alpha_threshold": threshold}
            new.append(about | found)
            if reading in (None, AS_TRAINED):
                continue
            for temperature in arguments.LATENT_TEMPERATURES:
                found = measure_draws(variant, arguments.DATA_SUBSET, *sizes, temperature)
                new.append(about | {"latent_temperature": temperature, **found})
        rows = [row for row in rows if row["experiment"] != name] + new
        write_json(path, rows)
        print(f"{table(new)}\n", flush=True)
    print(f"written to {path}")


if __name__ == "__main__":
    run(main)
