"""Show that this tree computes what another revision computed, bit for bit.

    python -m checks.same REVISION          # what `make same AS=REVISION` runs

Runs one small workflow (prepare, train every model in float32, sample, reconstruct, interpolate, evaluate, report) in a
worktree of the revision and in this tree, uncommitted changes included. Then compares every figure, sample, table,
prepared file and best checkpoint, and prints each difference with its name. This tree must also load what the revision
wrote: it continues a training and evaluates every model on a copy of the revision's files. Exit status 0 means equal, 1
different, 2 a failed command.

The revision's results are kept in `build/same/` and computed once.
"""

import argparse
import hashlib
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from safetensors import safe_open

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
MODELS = {"t": "T", "nvib": "NVIB", "vtv": "VTV", "vtp": "VTP", "vts": "VTS", "lm": "LM"}
SMALL = ("--DIM_H", 32, "--NUM_HEADS", 2, "--BATCH_SIZE", 16, "--PRECISION", "fp32", "--LEARNING_RATE", 0.005)
VARIATIONAL = ("--KL_GAUSSIAN_LAMBDA", 0.5, "--KL_WARMUP", 0.2, "--KL_ANNEALING_GAUSSIAN", "monotonic")
WORDS = ("the", "a", "old", "young", "king", "queen", "cat", "dog", "house", "river", "town", "saw", "found", "left")

# Keys that hold times, random names or prose, and no result.
NO_RESULT = {"seconds", "tokens_per_second", "versions", "wandb_id", "checksum", "commit"}
PROSE = {"better", "missing", "notes", "compared", "dropped", "caution"}
COMPARED = (".json", ".jsonl", ".csv", ".tex", ".md", ".txt", ".parquet", ".safetensors")
# Resumable state and the trackers' own files hold times; checksums follow from the files that are compared.
LEFT_OUT = ("latest.safetensors", "checksums.json", "state.json", "dataset_info.json", "wandb")


def experiment(name: str) -> tuple[object, ...]:
    """Flags that name an experiment of the workflow."""
    return "--PROJECT_NAME", "same", "--EXPERIMENT_NAME", name


def first_part() -> Iterator[tuple[object, ...]]:
    """Commands of the whole workflow, in order."""
    yield "prepareDatasets.py", "--DATA", "wikipedia-sample", "--VOCAB_SIZE", 2000
    yield (
        "prepareDatasets.py",
        "--DATA",
        "story.txt",
        "--CLEAN",
        "paper",
        "--TOKENIZER",
        "wordpiece",
        "--VOCAB_SIZE",
        200,
    )
    yield "prepareDatasets.py", "--DATA", "marks.txt", "--VOCAB_SIZE", 300, "--MORE_THAN", 2
    for data in ("reviews.csv", "reviews.jsonl"):
        name = ("--DATA", data, "--TEXT_COLUMN", "text", "--LABEL_COLUMN", "stars", "--VOCAB_SIZE", 200)
        yield "prepareDatasets.py", *name, *(("--DATA_DIR", "data-jsonl") if data.endswith("jsonl") else ())
    yield "prepareDatasets.py", "--DATA", "people.csv", "--ROW_TEMPLATE", "--VOCAB_SIZE", 200
    for name, model in MODELS.items():
        flags = VARIATIONAL if model not in ("T", "LM") else ()
        yield "train.py", *experiment(name), "--MODEL", model, *SMALL, *flags, "--DATA", "story", "--MAX_STEPS", 40
    nvib = ("--MODEL", "NVIB", *SMALL, *VARIATIONAL, "--MAX_STEPS", 40)
    yield "train.py", *experiment("nvib-2"), *nvib, "--DATA", "story", "--SEED", 2
    relu = ("--ALPHA_ACTIVATION", "relu", "--FREE_BITS", 0.1, "--WORD_DROPOUT", 0.1, "--ACCUMULATION_STEPS", 2)
    yield "train.py", *experiment("labels"), *nvib, *relu, "--DATA", "reviews", "--KAPPA", 2
    yield "train.py", *experiment("rows"), *nvib, "--DATA", "people", "--GRADIENT_CHECKPOINTING", True
    for name in ("nvib", "vtv", "vtp", "vts", "lm", "rows"):
        drawn = ("--DECODING", "sample", "--TOP_P", 0.9) if name in ("lm", "rows") else ()
        yield "sample.py", *experiment(name), "--NUMBER_SAMPLES", 60, *drawn
    yield "sample.py", *experiment("nvib-2"), "--NEAR", "the old king saw the river.", "--NUMBER_SAMPLES", 20
    yield "sample.py", *experiment("labels"), "--NUMBER_SAMPLES", 60, "--DECODING", "beam", "--LABEL", "good"
    for name in ("t", "nvib", "vtv", "vtp", "vts", "labels"):
        bounds = ("--IMPORTANCE_SAMPLES", 2) if name in ("vtv", "vtp", "vts") else ()
        yield "reconstruction.py", *experiment(name), *bounds
    for name in ("t", "nvib", "vts", "labels"):
        judge = ("--LANGUAGE_MODEL", "lm") if name != "labels" else ()
        yield "interpolation_evaluation.py", *experiment(name), "--NUMBER_PAIRS", 20, *judge
    for name in ("nvib", "vtv"):
        yield "forwardSampleEvaluation.py", *experiment(name), "--LANGUAGE_MODEL", "lm"
        yield "reverseSampleEvaluation.py", *experiment(name), "--LANGUAGE_MODEL", "lm", "--MAX_STEPS", 20
    for name in ("nvib", "labels"):
        yield "regularisation.py", *experiment(name)
    yield "quality.py", *experiment("nvib"), "--LANGUAGE_MODEL", "lm"
    yield "quality.py", *experiment("labels"), "--DROP_COPIES", 0.3
    yield "report.py", "--PROJECT_NAME", "same"


def second_part() -> Iterator[tuple[object, ...]]:
    """Commands that load and continue the first part's data and experiments."""
    vts = ("--MODEL", "VTS", *SMALL, *VARIATIONAL)
    yield "train.py", *experiment("vts"), *vts, "--DATA", "story", "--MAX_STEPS", 60
    begun = ("--MODEL", "NVIB", *SMALL, "--START_FROM", "t")
    yield "train.py", *experiment("nvib-from-t"), *begun, "--DATA", "story", "--MAX_STEPS", 10
    for name in ("t", "nvib", "vtp", "vts", "labels", "rows"):
        yield "reconstruction.py", *experiment(name), "--DATA_SUBSET", "test"
    for name in ("nvib", "lm", "labels", "rows"):
        yield "sample.py", *experiment(name), "--NUMBER_SAMPLES", 20, "--SEED", 7, "--DECODING", "sample"
    yield "report.py", "--PROJECT_NAME", "same"


def write_texts(folder: Path) -> None:
    """Write the workflow's own text files: sentences, marks of many kinds, labelled reviews, and a table."""
    draw = random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(6, 14))) + "."

    folder.mkdir(parents=True)
    (folder / "story.txt").write_text("".join(f"{sentence()} {sentence()}\n" for _ in range(250)), encoding="utf-8")
    marks = ("“Yes,” she said", "it's 3.14 (or so)", "U.S. and £51.91", "well-known", "naïve café", "C++?", "{x}!")
    lines = [f"{draw.choice(marks)}: {sentence()} {draw.choice(marks)}.\n" for _ in range(120)]
    (folder / "marks.txt").write_text("".join(lines), encoding="utf-8")
    reviews = [(sentence(), draw.choice(("good", "bad", "fair"))) for _ in range(260)]
    lines = [f'"{text}",{stars}\n' for text, stars in reviews]
    (folder / "reviews.csv").write_text("text,stars\n" + "".join(lines), encoding="utf-8")
    lines = [json.dumps({"text": text, "stars": stars}) + "\n" for text, stars in reviews]
    (folder / "reviews.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = [(draw.randint(18, 90), draw.choice(("Ann", "Bo", "Cy")), f"{draw.uniform(1, 9):.2f}") for _ in range(260)]
    lines = [f"{age},{name},{score}\n" for age, name, score in rows]
    (folder / "people.csv").write_text("age,name,score\n" + "".join(lines), encoding="utf-8")


def drive(tree: Path, commands: Iterable[Sequence[object]]) -> None:
    """Run a tree's scripts in the current folder, each in a fork of one process that has imported the libraries."""
    sys.path[0] = str(tree)
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import pandas  # noqa: F401
    import sacrebleu  # noqa: F401
    import scipy.sparse  # noqa: F401
    import torch
    import wandb  # noqa: F401

    torch.set_num_threads(1)
    for command in commands:
        script, *flags = map(str, command)
        pid = os.fork()
        if pid == 0:
            _child(tree / script, flags)
        if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            sys.exit(f"{tree.name}: {' '.join((script, *flags))} ended with status {status}")


def _child(script: Path, flags: Sequence[str]) -> NoReturn:
    log = os.open("log.txt.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"\n$ {script.name} {' '.join(flags)}\n".encode())
    os.dup2(log, 1)
    error, status = os.dup(2), 1
    os.dup2(log, 2)
    sys.argv = [str(script), *flags]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except BaseException:
        os.write(error, traceback.format_exc().encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def results(folder: Path) -> dict[str, Any]:
    """Everything that a run computed, by file and key."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix not in COMPARED or not path.is_file() or set(name.parts) & set(LEFT_OUT):
            continue
        if name.parts[0].startswith("."):
            continue
        if path.suffix == ".json":
            found |= _flat(str(name), json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".jsonl":
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
                found |= _flat(f"{name}, line {number}", json.loads(line))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                entries = file.metadata()
            if "checkpoint" in entries:  # an earlier version has its entries apart, in a random order
                entries = json.loads(entries["checkpoint"])
            found |= {f"{name}: {key}": value for key, value in entries.items()}
        elif path.suffix == ".parquet":
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            lines = path.read_text(encoding="utf-8").split("\n")
            found |= {f"{name}, line {number}": line for number, line in enumerate(lines, 1)}
    return found


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Nested values by their keys, those without a result left out."""
    if isinstance(value, dict):
        leave_out = NO_RESULT | (PROSE if "quality.json" in name else set())
        parts = {f"{name}: {key}": each for key, each in value.items() if key not in leave_out}
    elif isinstance(value, list):
        parts = {f"{name}[{number}]": each for number, each in enumerate(value)}
    else:
        return {name: value}
    return {key: each for part, of_part in parts.items() for key, each in _flat(part, of_part).items()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line for each result that differs, is missing or is new."""
    lines = []
    for name in before | now:
        if name not in now:
            lines.append(f"{name} is missing (was {before[name]!r})")
        elif name not in before:
            lines.append(f"{name} is new ({now[name]!r})")
        elif repr(before[name]) != repr(now[name]):
            lines.append(f"{name} was {before[name]!r}, is {now[name]!r}")
    return lines


def start(tree: Path, folder: Path, part: str) -> "subprocess.Popen[bytes]":
    """Begin a part of the workflow with a tree's scripts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(HERE), "--DRIVE", str(tree), part]
    return subprocess.Popen(command, cwd=folder, env=environment)


def finish(*processes: "subprocess.Popen[bytes]") -> None:
    """Wait for parts of the workflow; ends this process with status 2 where one failed."""
    statuses = [process.wait() for process in processes]  # of all, before any is left
    if any(statuses):
        sys.exit(2)


def compare(revision: str) -> int:
    """Run both trees and print the differences; returns how many there are."""
    git = ("git", "-C", str(ROOT))
    commit = subprocess.run([*git, "rev-parse", f"{revision}^{{commit}}"], capture_output=True, text=True, check=False)
    if commit.returncode:
        sys.exit(f"error: no revision {revision!r} in this repository; name a commit, a branch or a tag")
    key = f"{commit.stdout.strip()}-{hashlib.sha256(HERE.read_bytes()).hexdigest()[:8]}"
    kept = ROOT / "build" / "same" / key
    with tempfile.TemporaryDirectory() as scratch:
        own, then, tree = Path(scratch, "own"), Path(scratch, "then"), Path(scratch, "tree")
        write_texts(own)
        running = [start(ROOT, own, "first")]
        if not kept.exists():
            write_texts(then)
            subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(tree), key[:40]], check=True)
            running.append(start(tree, then, "first"))
        finish(*running)
        running = []
        if not kept.exists():
            shutil.copytree(then, Path(scratch, "kept", "first"), symlinks=True)
            running.append(start(tree, then, "second"))
        loaded = Path(scratch, "loaded")
        shutil.copytree(kept / "first" if kept.exists() else Path(scratch, "kept", "first"), loaded, symlinks=True)
        before_loading = results(own)
        finish(*running, start(ROOT, loaded, "second"))
        finish(start(ROOT, own, "second"))
        if not kept.exists():
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], check=True)
            shutil.move(str(then), Path(scratch, "kept", "second"))
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(str(Path(scratch, "kept")), kept)
        first, second = results(kept / "first"), results(kept / "second")
        found = differences(first, before_loading)
        found += [line for line in differences(second, results(own)) if line not in found]
        found += [f"with the revision's files: {line}" for line in differences(second, results(loaded))]
    print("\n".join(found[:200] + ([f"and {len(found) - 200} more"] if len(found) > 200 else [])))
    print(f"{len(first):,} + {len(second):,} results compared with {key[:12]}: {len(found)} differences")
    return len(found)


def main() -> None:
    """Compare, or run one part of the workflow in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("REVISION", nargs="?", help="commit, branch or tag to compare with")
    parser.add_argument("--DRIVE", nargs=2, metavar=("TREE", "PART"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.DRIVE is not None:
        tree, part = arguments.DRIVE
        drive(Path(tree), first_part() if part == "first" else second_part())
    elif not arguments.REVISION:
        sys.exit("error: name a revision to compare with: make same AS=HEAD~1")
    else:
        sys.exit(1 if compare(arguments.REVISION) else 0)


if __name__ == "__main__":
    main()
