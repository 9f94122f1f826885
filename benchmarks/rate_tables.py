"""Write the tables and plots of docs/operating-point.md from the runs of `make rates`.

    python -m benchmarks.rate_tables --PROJECT_NAME rates-wikitext2 --DATA wikitext2   # gathers, then writes the page
    python -m benchmarks.rate_tables                                                   # writes the page anew

Gathers the figures of a project's finished experiments, and those of its readings.json
(`benchmarks.compared_readings`), into benchmarks/rates/<DATA>.json; experiments gathered before stay. The page has a
table between `<!-- table: <name> <DATA> -->` and `<!-- end -->`, which is replaced as a whole, and
docs/results/rates-<DATA>.png. No figure is copied by hand.
"""

import argparse
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import StrMethodFormatter

from benchmarks.compared_readings import AS_TRAINED
from benchmarks.doc_facts import table
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.experiments.metric_types import CONTROLS
from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.paths import experiment_names
from pipeline.recipes.plan import JUDGE
from pipeline.reporting.results import from_outputs
from pipeline.runtime.files import read_json, write_json, write_text
from pipeline.runtime.plotting import panels

ROOT = Path(__file__).parent.parent
GATHERED = ROOT / "benchmarks" / "rates"
PAGE = ROOT / "docs" / "operating-point.md"
MARKED = re.compile(r"(<!-- table: (?P<name>\w+) (?P<data>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
REMEDY = "restore the file from the repository"
BLEU, RATE, FLUENCY = "validation/reconstruction_bleu", "validation/rate", "samples/forward_perplexity"
SHARE = "share of T's"
COLUMNS = (
    RATE,
    "validation/vectors_kept_fraction",
    BLEU,
    SHARE,
    FLUENCY,
    "samples/distinct_2",
    "samples/mauve",
    "samples/same_draw_bleu",
    "samples/different_draws_bleu",
)
KEPT = (*(key for key in COLUMNS if key != SHARE), "validation/perplexity", "samples/count", "samples/mauve_count")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("runs")
    group.add_argument("--PROJECT_NAME", type=types.name, help="project of `make rates` to gather (default: none)")
    group.add_argument("--DATA", type=types.name, default="wikipedia-sample", help="name of its data")
    group.add_argument("--OUTPUT_DIR", type=types.folder, default=Path("outputs"), help="folder of all projects")
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> None:
    """Gather the runs of a project, where one is named, and write the page and its plots anew."""
    if arguments.PROJECT_NAME is not None:
        gather(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, GATHERED / f"{arguments.DATA}.json")
    runs = {path.stem: read_json(path, REMEDY) for path in sorted(GATHERED.glob("*.json"))}
    for data, found in runs.items():
        draw(found["experiments"], ROOT / "docs" / "results" / f"rates-{data}.png")
    write_text(PAGE, filled(PAGE.read_text(encoding="utf-8"), runs))


def gather(output_dir: Path, project: str, path: Path) -> None:
    """Add the figures of a project's finished experiments to a file, and its readings."""
    found = read_json(path, REMEDY) if path.exists() else {"experiments": {}, "readings": []}
    results, _ = from_outputs(output_dir, project, experiment_names(output_dir, project))
    keys = [*KEPT, *(key + suffix for key in KEPT for suffix in CONTROLS)]
    for result in results:
        figures = {key: result.figures[key] for key in keys if key in result.figures}
        settings = {name: result.settings.get(name) for name in ("model", "seed", "max_steps", "start_from")}
        found["experiments"][result.name] = {**settings, "figures": figures}
    readings = output_dir / project / "readings.json"
    if readings.exists():
        found["readings"] = read_json(readings, REMEDY)
    write_json(path, found)


def filled(page: str, runs: Mapping[str, Any]) -> str:
    """Replace the tables in a page by those of the runs."""

    def replaced(match: re.Match[str]) -> str:
        found = runs.get(match["data"])
        return match[0] if found is None else f"{match[1]}{TABLES[match['name']](found)}{match[4]}"

    return MARKED.sub(replaced, page)


def frontier(found: Mapping[str, Any]) -> str:
    """Format the models, real text and unigrams: a row each, means and standard deviations over seeds."""
    experiments: Mapping[str, Any] = found["experiments"]
    of_transformer = {
        row["seed"]: row["figures"][BLEU]
        for row in experiments.values()
        if row["model"] == "T" and BLEU in row["figures"]
    }
    rows: dict[str, list[dict[str, float]]] = {}
    for suffix, name in CONTROLS.items():
        own = [
            {key: figures[key + suffix] for key in COLUMNS if key + suffix in figures}
            for figures in (row["figures"] for row in experiments.values())
        ]
        rows[name] = [figures for figures in own if figures]
    for name, row in experiments.items():
        if name == JUDGE:
            continue
        figures = dict(row["figures"])
        if BLEU in figures and of_transformer.get(row["seed"]):
            figures[SHARE] = figures[BLEU] / of_transformer[row["seed"]]
        rows.setdefault(f"{without_seed(name)} ({row['model']})", []).append(figures)
    header = ["", "seeds", *(SHARE if key == SHARE else FIGURES[key].column(with_split=False) for key in COLUMNS)]
    body = [
        [label, "–" if label in CONTROLS.values() else str(len(group)), *(cell(group, key) for key in COLUMNS)]
        for label, group in rows.items()
        if group
    ]
    return table(header, body)


def cell(group: Sequence[Mapping[str, float]], key: str) -> str:
    """Format the mean of a figure over a group, and its standard deviation where there are several values."""
    values = [row[key] for row in group if row.get(key) is not None]
    if not values:
        return "–"
    decimals = 2 if key == SHARE else FIGURES[key].metric.decimals
    text = f"{statistics.fmean(values):.{decimals}f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.{decimals}f}"


def without_seed(name: str) -> str:
    """Return the name of an experiment's run: `rate-30` of `rate-30-s1`."""
    return re.sub(r"-s[0-9]+$", "", name)


def readings(found: Mapping[str, Any]) -> str:
    """Format the cross-entropy of each reading: a row for each run and threshold, means over seeds."""
    groups: dict[tuple[str, float], dict[str, list[float]]] = {}
    for row in found["readings"]:
        if row.get("alpha_threshold") is not None and row["reading"] != AS_TRAINED:
            run_name = without_seed(row["experiment"])
            values = groups.setdefault((run_name, row["alpha_threshold"]), {})
            values.setdefault(row["reading"], []).append(row["cross_entropy"])
    for row in found["readings"]:
        run_name = without_seed(row["experiment"])
        for (name, _), values in groups.items():
            if name == run_name and row["reading"] == AS_TRAINED:
                values.setdefault(AS_TRAINED, []).append(row["cross_entropy"])
    names = [AS_TRAINED, *dict.fromkeys(name for values in groups.values() for name in values if name != AS_TRAINED)]
    header = ["", "threshold", "seeds", *names]
    body = []
    for (run_name, threshold), values in groups.items():
        cells = [f"{statistics.fmean(values[name]):.3f}" if name in values else "–" for name in names]
        body.append([run_name, f"{threshold:g}", str(max(map(len, values.values()))), *cells])
    return table(header, body)


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {"frontier": frontier, "readings": readings}


def draw(experiments: Mapping[str, Any], path: Path) -> None:
    """Plot BLEU and F-PPL against the rate, a point for each experiment with a rate; lines for T, LM and real text."""
    rows = [row["figures"] for row in experiments.values() if row["model"] == "NVIB" and RATE in row["figures"]]
    if not rows:
        return
    with panels(path, 1, 2, 9.0, 3.5) as every:
        for axes, key in zip(every, (BLEU, FLUENCY), strict=True):
            for name, color in (("rate-", "C0"), ("prior-", "C1")):
                chosen = [
                    row["figures"]
                    for run_name, row in experiments.items()
                    if run_name.startswith(name) and {RATE, key} <= row["figures"].keys()
                ]
                label = {"rate-": "a rate asked for", "prior-": "with draws of the prior in training"}[name]
                shown = label if key == BLEU else None
                axes.plot([f[RATE] for f in chosen], [f[key] for f in chosen], "o", color=color, label=shown)
            for label, values, style in references(experiments, key):
                axes.axhline(statistics.fmean(values), ls=style, color="0.4", lw=1, label=label)
            axes.set(xscale="log", xlabel="rate (nats a vector)", ylabel=FIGURES[key].label)
            axes.set_xticks([15, 30, 60, 120], ["15", "30", "60", "120"], minor=False)
            axes.minorticks_off()
            if key == FLUENCY:
                axes.set_yscale("log")
                for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                    formatted(StrMethodFormatter("{x:,.0f}"))
            axes.legend(frameon=False, fontsize=7)


def references(experiments: Mapping[str, Any], key: str) -> Iterable[tuple[str, list[float], str]]:
    """Yield label, values and line style of what the models are compared with."""
    for model, style in (("T", "--"), ("LM", "-.")):
        values = [r["figures"][key] for n, r in experiments.items() if r["model"] == model and key in r["figures"]]
        if values:
            yield model, values, style
    for suffix, name in CONTROLS.items():
        values = [row["figures"][key + suffix] for row in experiments.values() if key + suffix in row["figures"]]
        if values and name == "real text":
            yield name, values, ":"


if __name__ == "__main__":
    run(lambda: main(parse()))
