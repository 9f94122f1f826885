"""Compare ways to train a decoder for latents that are not a text's own.

    python -m benchmarks.imperfect_latents --PROJECT_NAME imperfect --DATA wikipedia-sample --SEEDS 1 2 3

The project holds NVAEs `rate-30-s<seed>` from scratch, a language model as learned prior and one as judge. Each way
trains 400 steps more from the NVAE of its seed, at the same rate: with vectors dropped, with noisier draws of the
posterior, with two draws of each component, or as before. It then samples from the plain prior and from the learned
one. Finished runs are not run again. Writes benchmarks/imperfect_latents.json, from which `benchmarks.doc_tables`
writes the table of docs/priors.md.
"""

import argparse
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import processor
from benchmarks.script_runs import ROOT, run_script
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.files import read_json, write_json

RESULTS = ROOT / "benchmarks" / "imperfect_latents.json"
WAYS: dict[str, tuple[str, ...]] = {
    "none": (),
    "drop": ("--VECTOR_DROPOUT", "0.85", "--DROPPED_VECTORS", "prior", "--FULL_TEXTS", "0.4"),
    "half": ("--VECTOR_DROPOUT", "0.5", "--DROPPED_VECTORS", "prior", "--FULL_TEXTS", "0.4"),
    "full": ("--VECTOR_DROPOUT", "0.85", "--DROPPED_VECTORS", "prior", "--FULL_TEXTS", "0.7"),
    "hot": ("--POSTERIOR_TEMPERATURE", "2", "--FULL_TEXTS", "0.4"),
    "double": ("--KAPPA", "2"),
}
SIZE = ("--NUM_HEADS", "4", "--DROPOUT", "0", "--BATCH_SIZE", "32")
TRAINING = ("--TARGET_RATE", "30", "--COOLDOWN", "0.2", "--BOTTLENECK", "plain", "--PRECISION", "bf16")
DRAWN = ("--DECODING", "sample", "--TOP_P", "0.95")
PRIORS = {"plain": (), "learned": ("--PRIOR", "learned", "--PRIOR_TOP_P", "0.95")}
FIGURES = ("forward_perplexity", "mauve", "distinct_2", "same_draw_bleu", "different_draws_bleu")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("runs")
    group.add_argument("--PROJECT_NAME", default="imperfect", help="project of the models")
    group.add_argument(
        "--OUTPUT_DIR", type=types.folder, default=Path("outputs"), help="folder that holds all projects"
    )
    group.add_argument("--DATA_DIR", type=types.folder, default=Path("data"), help="folder that holds all datasets")
    group.add_argument("--DATA", default="wikipedia-sample", help="data of the models")
    group.add_argument("--START", default="rate-30-s{seed}", help="name of the NVAE that each seed starts from")
    group.add_argument("--FROM", default="lm-s1", help="language model that is the learned prior")
    group.add_argument("--LANGUAGE_MODEL", default="judge", help="language model that judges")
    group.add_argument("--SEEDS", type=types.integer(0, 10**6), nargs="+", default=[1, 2, 3], help="seeds of the runs")
    group.add_argument("--WAYS", choices=tuple(WAYS), nargs="+", default=list(WAYS), help="ways to train")
    group.add_argument("--STEPS", type=types.integer(1), default=400, help="steps of each run")
    group.add_argument("--COUNT", type=types.integer(2), default=500, help="samples of each prior")
    group.add_argument("--RESULTS", type=Path, default=RESULTS, help="file of the results")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """Train and sample one way with one seed, and return its row of the results."""
    name = f"{way}-s{seed}"
    places = ("--OUTPUT_DIR", arguments.OUTPUT_DIR, "--DATA_DIR", arguments.DATA_DIR)
    experiment = ("--PROJECT_NAME", arguments.PROJECT_NAME, "--EXPERIMENT_NAME", name, *places)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, name)
    start = ("--START_FROM", arguments.START.format(seed=seed), "--SEED", seed, "--MAX_STEPS", arguments.STEPS)
    model = ("--MODEL", "NVIB", "--DATA", arguments.DATA)
    run_script("train.py", *experiment, *model, *SIZE, *TRAINING, *start, *WAYS[way])
    run_script("reconstruction.py", *experiment)
    run_script("train_prior.py", *experiment, "--FROM", arguments.FROM, "--RESTART", "True")
    row: dict[str, Any] = {"way": way, "seed": seed}
    for prior, flags in PRIORS.items():
        run_script("sample.py", *experiment, "--NUMBER_SAMPLES", arguments.COUNT, *DRAWN, *flags)
        judge = ("--LANGUAGE_MODEL", arguments.LANGUAGE_MODEL, "--DATA_SUBSET", "test")
        run_script("forwardSampleEvaluation.py", *experiment, *judge)
        summary = read_json(files.summary, "measure the model anew")
        row |= {"bleu": summary["validation/reconstruction_bleu"], "rate": summary["validation/rate"]}
        row[prior] = {figure: summary[f"samples/{figure}"] for figure in FIGURES}
        row["real"] = {
            figure: summary.get(f"samples/{figure}_of_real_text") for figure in FIGURES if "draw" not in figure
        }
    return row


def main() -> None:
    """Measure each way with each seed, and write the results after each."""
    arguments = parse()
    results: dict[str, Any] = json.loads(arguments.RESULTS.read_text()) if arguments.RESULTS.exists() else {"rows": []}
    for seed in arguments.SEEDS:
        for way in arguments.WAYS:
            if any((row["way"], row["seed"]) == (way, seed) for row in results["rows"]):
                continue
            results["rows"].append(measure(arguments, way, seed))
            results |= {"data": arguments.DATA, "steps": arguments.STEPS, "count": arguments.COUNT}
            results |= {"machine": processor(), "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))}
            results["date"] = date.today().isoformat()
            write_json(arguments.RESULTS, results)


if __name__ == "__main__":
    run(main)
