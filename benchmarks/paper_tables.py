"""Write the tables and plots of docs/results.md from the kept runs of `make paper DATA=wikitext2`.

    python -m benchmarks.paper_tables

Reads benchmarks/paper-wikitext2/. The page has a table between `<!-- table: paper_<name> -->` and `<!-- end -->`, which
is replaced as a whole, and docs/results/wikitext2-<name>.png. No figure is copied by hand.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.doc_facts import table
from benchmarks.rate_tables import BLEU, cell, without_seed
from pipeline.cli import entry
from pipeline.cli.parser import Parser
from pipeline.experiments.config import flat_config
from pipeline.experiments.metric_types import CONTROLS
from pipeline.experiments.metrics import FIGURES
from pipeline.recipes.paper import RUNS
from pipeline.recipes.plan import JUDGE
from pipeline.reporting.curves import write_figures
from pipeline.reporting.results import Result, grouped
from pipeline.runtime.files import read_json, write_text

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "paper-wikitext2"
PAGE = ROOT / "docs" / "results.md"
PLOTS = ("forward_against_reverse", "interpolation", "reconstruction_against_kept")
MARKED = re.compile(r"(<!-- table: paper_(?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD, NONE = 2, "Not run yet.\n"  # lines of a table without rows, and what stands for one
REMEDY = "restore the file from the repository"

MODELS = ("t", "lm", "vtv", "vtp", "vts", "nvib", "nvib-30", "nvib-30-plain")
RECONSTRUCTION = (
    BLEU,
    "test/reconstruction_bleu",
    "test/reconstruction_perplexity",
    "validation/vectors_kept_fraction",
    "validation/rate",
    "test/elbo",
    "test/importance_weighted_bound",
)
SAMPLES = (
    "samples/forward_perplexity",
    "test/reverse_perplexity",
    "samples/mauve",
    "samples/distinct_2",
    "samples/self_bleu",
    "samples/exact_training_fraction",
    "samples/same_draw_bleu",
    "samples/different_draws_bleu",
)
STRENGTHS = (
    "validation/vectors_kept",
    "validation/vectors_kept_fraction",
    BLEU,
    "validation/alpha0",
    "validation/kl_gaussian",
    "validation/kl_dirichlet",
    "regularisation/unexplained_by_length",
)
REMEDIES = (
    BLEU,
    "validation/perplexity",
    "validation/kl_gaussian",
    "validation/active_units",
    "validation/perplexity_gap",
)
TAUS = ("0", "0.25", "0.5", "0.75", "1")

Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # figures of each seed, by the name of the run


def read() -> tuple[list[Result], dict[str, dict[str, Any]]]:
    """Return the kept experiments, that of the judge not among them, and the kept studies by their models."""
    results, studies = list[Result](), dict[str, dict[str, Any]]()
    for path in sorted(KEPT.glob("*.json")):
        kept: dict[str, Any] = read_json(path, REMEDY)
        if "config" in kept and path.stem != JUDGE:
            history, control = kept.get("metrics", []), kept.get("control", [])
            results.append(Result(path.stem, flat_config(kept["config"]), kept["summary"], history, control))
        elif "best" in kept:
            studies[kept["best"]["model"]["name"]] = kept
    order = [run.name for run in RUNS]
    return sorted(results, key=lambda each: order.index(without_seed(each.name))), studies


def by_run(results: Iterable[Result]) -> dict[str, list[dict[str, Any]]]:
    """Group the figures of experiments by their runs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        found.setdefault(without_seed(result.name), []).append(result.figures)
    return found


def rows_of(runs: Runs, names: Iterable[str], keys: Sequence[str]) -> list[list[str]]:
    """Format the runs that have any of the figures: a row each, means and standard deviations over seeds."""
    return [
        [f"`{name}`", str(len(runs[name])), *(cell(runs[name], key) for key in keys)]
        for name in names
        if any(key in figures for figures in runs.get(name, ()) for key in keys)
    ]


def header(first: str, keys: Sequence[str], with_split: bool = True) -> list[str]:
    """Return the names of the columns."""
    return [first, "seeds", *(FIGURES[key].column(with_split) for key in keys)]


def reconstruction(runs: Runs) -> str:
    """Format how the models reconstruct."""
    return table(header("", RECONSTRUCTION), rows_of(runs, (n for n in MODELS if n != "lm"), RECONSTRUCTION))


def samples(runs: Runs) -> str:
    """Format the samples of the models; real text and unigrams have the last rows."""
    body = rows_of(runs, MODELS, SAMPLES)
    every = [figures for group in runs.values() for figures in group]
    for suffix, name in CONTROLS.items():
        found = [{key: f[key + suffix] for key in SAMPLES if key + suffix in f} for f in every]
        own = [each for number, each in enumerate(found) if each and each not in found[:number]]  # of equal texts, one
        if own:
            body.append([name, "–", *(cell(own, key) for key in SAMPLES)])
    return table(header("", SAMPLES), body)


def interpolation(runs: Runs) -> str:
    """Format the interpolations: BLEU to both ends at each tau, and the novel texts halfway."""
    halfway = ("interpolation/tau_0.5/novel_fraction", "interpolation/tau_0.5/novel_forward_perplexity")
    body = [
        [
            f"`{name}`",
            *(
                ", ".join(cell(runs[name], f"interpolation/tau_{tau}/bleu_{end}").split(" ")[0] for tau in TAUS)
                for end in ("source", "target")
            ),
            *(cell(runs[name], key) for key in halfway),
        ]
        for name in MODELS
        if any(halfway[0] in figures for figures in runs.get(name, ()))
    ]
    return table(["", "BLEU to the source", "to the target", "novel, τ = 0.5", "F-PPL of the novel, τ = 0.5"], body)


def strengths(runs: Runs) -> str:
    """Format the runs with other weights of the regulariser."""
    names = [run.name for run in RUNS if run.name == "nvib" or run.name.startswith("nvib-lambda")]
    return table(header("", STRENGTHS, with_split=False), rows_of(runs, names, STRENGTHS))


def remedies(runs: Runs) -> str:
    """Format the remedies for posterior collapse."""
    names = [run.name for run in RUNS if run.name.startswith("vtp")]
    return table(header("", REMEDIES, with_split=False), rows_of(runs, names, REMEDIES))


def studies(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the settings that the studies found."""
    body = []
    for model in dict.fromkeys(run.model for run in RUNS):
        if model in found:
            best = found[model]["best"]
            chosen = best["found_by"]
            own = {**best["model"], **best["training"]}
            fixed = {"name", *chosen["model_fields"], *chosen["training_fields"]}
            settings = ", ".join(
                f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in own.items()
                if name not in fixed
            )
            body.append([f"`{model}`", settings, str(chosen["trials"]), f"{chosen['value']:.3f}"])
    return table(["", "settings found", "trials", "objective"], body)


TABLES: dict[str, Callable[[Runs], str]] = {
    "reconstruction": reconstruction,
    "samples": samples,
    "interpolation": interpolation,
    "strengths": strengths,
    "remedies": remedies,
}


def filled(page: str, results: Sequence[Result], found: Mapping[str, Mapping[str, Any]]) -> str:
    """Replace the tables in a page by those of the kept runs."""
    runs = by_run(results)

    def replaced(match: re.Match[str]) -> str:
        shown = studies(found) if match["name"] == "studies" else TABLES[match["name"]](runs)
        if len(shown.splitlines()) <= HEAD:
            shown = NONE
        return f"{match[1]}{shown}{match[3]}"

    return MARKED.sub(replaced, page)


def main() -> None:
    """Write the tables into the page, and the plots."""
    Parser(__doc__ or "").parse_args()
    results, found = read()
    write_text(PAGE, filled(PAGE.read_text("utf-8"), results, found))
    with tempfile.TemporaryDirectory() as folder:
        drawn = write_figures(Path(folder), grouped([each for each in results if each.figures]))
        for name in PLOTS:
            if f"{name}.png" in drawn:
                shutil.copy(Path(folder) / f"{name}.png", PAGE.parent / "results" / f"wikitext2-{name}.png")


if __name__ == "__main__":
    entry.run(main)
