"""Measure how cost grows: with processes, with the corpus, and with the model's sizes.

    python -m benchmarks.scaling                       # all three
    python -m benchmarks.scaling --PART processes      # one: processes, corpus or model

processes: tokens a second of train.py (NVIB, the scripts' defaults, float32) on the embedded Wikipedia sample, with one
and two processes of one thread each, and with one process that uses all threads. The runs alternate.
corpus: seconds, peak memory and disk of prepareDatasets.py on WikiText-2 with a repeated training file. Memory is the
sum over all its processes. If WikiText-2 is missing, the sentences of the Wikipedia sample replace it.
model: seconds and peak memory of an optimizer step of NVIB. Batch, length, vocabulary, width and depth vary one at a
time.

Each part replaces its section of benchmarks/scaling.json. benchmarks/scaling.png is drawn again from all parts.
`python -m benchmarks.doc_tables` writes the figures into docs/scaling.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import processor
from benchmarks.memory import watch
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.corpora import WIKITEXT_FILES
from pipeline.data.dataset import load_prepared
from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.plotting import panels

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, PLOT = HERE / "scaling.json", HERE / "scaling.png"
SHARED = ROOT.parent / "shared"
BERT = SHARED / "tokenizers" / "bert-base-uncased"
BATCH = 64
ALL_THREADS = "1 process, all threads"
# Processes, threads per process, and sentences per batch of a process.
LAUNCHES = {
    "1 process": (1, 1, BATCH),
    "2 processes, same batch each": (2, 1, BATCH),
    "2 processes, half the batch each": (2, 1, BATCH // 2),
    ALL_THREADS: (1, os.cpu_count() or 1, BATCH),
}
USUAL = {"sentences": 32, "length": 25, "vocabulary": 8000, "width": 256, "layers": 1}
VARIED = {
    "sentences": (8, 32, 128),
    "length": (10, 25, 50, 100),
    "vocabulary": (2000, 8000, 30_522, 120_000),
    "width": (64, 128, 256, 512, 1024),
    "layers": (1, 2, 4),
}


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    parser.add_argument("--PART", choices=["all", *PARTS], default="all", help="what to measure")
    parser.add_argument(
        "--LOCAL_PATH",
        type=types.OrNone(types.folder),
        default=SHARED / "data" / "wikitext-2",
        help="folder with WikiText-2's wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens",
    )
    parser.add_argument(
        "--REPEATS",
        type=types.integer(1),
        nargs="+",
        default=[1, 5, 10, 50],
        help="how often the corpus holds its training file, in turn",
    )
    parser.add_argument("--ROUNDS", type=types.integer(1), default=3, help="runs of each number of processes")
    parser.add_argument("--STEPS", type=types.integer(1), default=40, help="optimizer steps of each run")
    return parser.parse_args()


def environment(threads: int | None = None) -> dict[str, str]:
    """Return the environment of a script: offline, with a number of threads."""
    values = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return values if threads is None else {**values, "OMP_NUM_THREADS": str(threads)}


def script(*command: object, processes: int = 1, threads: int | None = None) -> None:
    """Run a script to its end, with torchrun for several processes.

    Raises:
        CalledProcessError: the script failed. Its output is printed to stderr.
    """
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"] if processes > 1 else []
    finished = subprocess.run(
        [sys.executable, *launcher, *map(str, command)],
        cwd=ROOT,
        env=environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        print(finished.stdout, finished.stderr, sep="\n", file=sys.stderr)
        finished.check_returncode()


def processes(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure tokens per second of training by the number of processes: all runs, median and spread."""
    script("prepareDatasets.py", "--DATA", "wikipedia-sample", "--DATA_DIR", folder / "data")
    speeds: dict[str, list[float]] = {name: [] for name in LAUNCHES}
    for number in range(arguments.ROUNDS):
        for name, (count, threads, batch) in LAUNCHES.items():
            outputs = folder / f"outputs-{number}-{count}-{threads}-{batch}"
            script(
                *("train.py", "--DATA", "wikipedia-sample", "--DATA_DIR", folder / "data"),
                *("--OUTPUT_DIR", outputs, "--EXPERIMENT_NAME", "speed", "--MODEL", "NVIB", "--PRECISION", "fp32"),
                *("--BATCH_SIZE", batch, "--MAX_STEPS", arguments.STEPS),
                processes=count,
                threads=threads,
            )
            row = json.loads(next(outputs.glob("*/speed/metrics.jsonl")).read_text().splitlines()[-1])
            speeds[name].append(row["tokens_per_second"])
            shutil.rmtree(outputs)
            print(f"{name:<34} {row['tokens_per_second']:10,.0f} tokens/s", flush=True)
    return {
        "steps": arguments.STEPS,
        "runs": {
            name: {
                "processes": LAUNCHES[name][0],
                "threads": LAUNCHES[name][1],
                "batch": LAUNCHES[name][2],
                "tokens_per_second": statistics.median(values),
                "spread": half_quartiles(values),
                "all": values,
            }
            for name, values in speeds.items()
        },
    }


def half_quartiles(values: list[float]) -> float:
    """Return half the interquartile range; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / 2


def corpus(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure seconds, memory and disk space of preparation by the size of the corpus."""
    given = arguments.LOCAL_PATH
    source = given if given is not None and (given / WIKITEXT_FILES["train"]).is_file() else made_up(folder)
    tokenizer = BERT if BERT.is_dir() else "wordpiece"
    rows = []
    for repeats in arguments.REPEATS:
        text, data = folder / "text", folder / "prepared"
        repeat_training(source, text, repeats)
        watched = watch(
            [
                *(sys.executable, "prepareDatasets.py", "--DATA", "wikitext2", "--LOCAL_PATH", str(text)),
                *("--TOKENIZER", str(tokenizer), "--DATA_DIR", str(data)),
            ],
            cwd=ROOT,
            env=environment(),
        )
        figures = json.loads((data / "wikitext2" / "statistics.json").read_text())
        rows.append(
            {
                "repeats": repeats,
                "training_bytes": (text / WIKITEXT_FILES["train"]).stat().st_size,
                "training_sentences": figures["train"]["sentences"],
                "training_tokens": figures["train"]["tokens"],
                "sentences": sum(figures[part]["sentences"] for part in WIKITEXT_FILES),
                "seconds": watched.seconds,
                "peak_gb": watched.peak / 1e9,
                "anonymous_gb": watched.anonymous / 1e9,
                "disk_bytes": sum(path.stat().st_size for path in data.rglob("*") if path.is_file()),
            }
        )
        shutil.rmtree(text)
        shutil.rmtree(data)
        print(
            f"{rows[-1]['sentences']:>12,} sentences {watched.seconds:8.1f} s, peak {watched.peak / 1e9:.2f} GB "
            f"({watched.anonymous / 1e9:.2f} anonymous), {rows[-1]['disk_bytes'] / 1e6:,.0f} MB on disk",
            flush=True,
        )
    return {"source": "WikiText-2" if source == given else "the Wikipedia sample", "rows": rows}


def repeat_training(source: Path, target: Path, repeats: int) -> None:
    """Make a folder in WikiText's form whose training file repeats that of `source`."""
    target.mkdir()
    for part, name in WIKITEXT_FILES.items():
        with open(target / name, "wb") as written:
            for _ in range(repeats if part == "train" else 1):
                with open(source / name, "rb") as read:
                    shutil.copyfileobj(read, written)


def made_up(folder: Path) -> Path:
    """Make a folder in WikiText's form from the embedded Wikipedia sample."""
    script("prepareDatasets.py", "--DATA", "wikipedia-sample", "--DATA_DIR", folder / "sample")
    splits = load_prepared(folder / "sample", "wikipedia-sample").splits
    target = folder / "made-up"
    target.mkdir()
    for part, name in WIKITEXT_FILES.items():
        (target / name).write_text("".join(f" {row} \n" for row in splits[part]["text"]), encoding="utf-8")
    return target


def model(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure seconds and memory of a training step: one quantity varied at a time, each size in its own process."""
    rows = []
    for quantity, values in VARIED.items():
        for value in values:
            size = {**USUAL, quantity: value}
            command = [sys.executable, "-m", "benchmarks.step", json.dumps({**size, "steps": 5})]
            output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
            rows.append({"varied": quantity, **json.loads(output)})
            print(
                f"{quantity:<12}{value:>8,} {1e3 * rows[-1]['seconds']:8.0f} ms a step, {rows[-1]['peak_gb']:.2f} GB",
                flush=True,
            )
    return {"rows": rows}


PARTS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "processes": processes,
    "corpus": corpus,
    "model": model,
}


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw four panels: speed by processes, time and memory of preparation by sentences, and a step by its sizes."""
    with panels(path, 2, 2, width=10.0, height=7.0) as (speed, seconds, memory, step):
        if "processes" in results:
            runs = results["processes"]["runs"]
            labels = [name.replace(", ", "\n").replace(" each", "\neach") for name in runs]
            speed.bar(
                labels,
                [run["tokens_per_second"] for run in runs.values()],
                yerr=[run["spread"] for run in runs.values()],
                color="#4477aa",
            )
            speed.tick_params(axis="x", labelsize="small")
        speed.set(ylabel="tokens a second", title="training against processes")
        rows = results.get("corpus", {}).get("rows", [])
        counts = [row["sentences"] for row in rows]
        if rows:
            seconds.loglog(counts, [row["seconds"] for row in rows], marker="o")
            memory.semilogx(counts, [row["peak_gb"] for row in rows], marker="o", label="total")
            memory.semilogx(counts, [row["anonymous_gb"] for row in rows], marker="o", label="anonymous")
            memory.set_ylim(bottom=0)
            memory.legend(frameon=False)
        seconds.set(xlabel="sentences", ylabel="seconds", title="preparation: time")
        memory.set(xlabel="sentences", ylabel="peak GB", title="preparation: memory")
        for quantity in VARIED:
            of = [row for row in results.get("model", {}).get("rows", []) if row["varied"] == quantity]
            if of:
                step.loglog([row[quantity] for row in of], [row["seconds"] for row in of], marker="o", label=quantity)
                step.legend(frameon=False)
        step.set(xlabel="value of the quantity, others as usual", ylabel="seconds", title="a training step (NVIB)")


def main() -> None:
    """Measure, write the results, and draw the figure."""
    arguments = parse()
    results = read_json(RESULTS, "remove it") if RESULTS.exists() else {}
    for part in PARTS if arguments.PART == "all" else [arguments.PART]:
        machine = {
            "machine": f"{processor()}, {os.cpu_count()} cores",
            "cores": os.cpu_count(),
            "torch": version("torch"),
            "date": time.strftime("%Y-%m-%d"),
            "load": round(
                os.getloadavg()[0], 1
            ),  # load by other processes: mean number of runnable ones in the last minute
        }
        with tempfile.TemporaryDirectory() as folder:
            results[part] = {**machine, **PARTS[part](arguments, Path(folder))}
        write_json(RESULTS, results)
    plot(results, PLOT)


if __name__ == "__main__":
    run(main)
