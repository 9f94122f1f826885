"""The report: experiments grouped across seeds, and its tables."""

import csv
import dataclasses
import json
import statistics
from pathlib import Path
from types import SimpleNamespace

import pytest

from models import MODELS
from pipeline.experiments.config import flat_config, new_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.reporting.curves import write_figures
from pipeline.reporting.results import Result, from_outputs, from_wandb, grouped
from pipeline.reporting.tables import write_tables
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_record, write_records
from tests.helpers import call, one_line_of_error, run

BLEU = {1: 80.0, 2: 84.0, 3: 91.0}


IDENTITY = {"fingerprint": "abc"}


def write_experiment(outputs: Path, name: str, model: str, seed: int, figures: dict | None, **settings) -> dict:
    files = ExperimentFiles.of(outputs, "nvib", name)
    config = new_config(MODELS[model](vocabulary_size=9, **settings), TrainingSettings(seed=seed), "tiny", IDENTITY)
    write_record(files.config, config)
    write_records(files.metrics, [{"epoch": 1, "step": 10, "validation/cross_entropy": 2.0 + seed}])
    if figures is not None:
        write_record(files.summary, {"best_epoch": 1} | figures)
    return config


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Three seeds of a model, two settings of another, one that failed and one that has not finished."""
    outputs = tmp_path_factory.mktemp("outputs")
    for seed, bleu in BLEU.items():
        figures = {"validation/reconstruction_bleu": bleu, "validation/vectors_kept_fraction": 0.5}
        figures |= {"samples/forward_perplexity": 90.0 + seed, "test/reverse_perplexity": 200.0}
        figures |= {
            f"interpolation/tau_{tau}/bleu_{end}": 9.0
            for tau in (0, 0.25, 0.5, 0.75, 1)
            for end in ("source", "target")
        }
        write_experiment(outputs, f"nvib-s{seed}", "NVIB", seed, figures)
    for stride in (0.3, 0.6):
        write_experiment(
            outputs, f"vts_{stride}", "VTS", 1, {"validation/reconstruction_bleu": 50 * stride}, stride_perc=stride
        )
    write_experiment(outputs, "burst", "VTV", 1, None)
    write_record(outputs / "nvib" / "burst" / "failure.json", {"reason": "the loss became nan at step 7"})
    write_experiment(outputs, "begun", "VTP", 1, None)
    write_experiment(outputs, "sampled", "VTP", 1, None)
    write_record(outputs / "nvib" / "sampled" / "summary.json", {"samples/forward_perplexity": 9.0})
    return outputs


def test_experiments_that_differ_in_their_seed_alone_are_one_row(outputs: Path):
    results, _ = from_outputs(outputs, "nvib", ["vts_0.6", "nvib-s1", "nvib-s2", "nvib-s3", "vts_0.3"])
    groups = {group.label: [result.name for result in group.results] for group in grouped(results)}
    assert groups == {"vts_0.6": ["vts_0.6"], "nvib": ["nvib-s1", "nvib-s2", "nvib-s3"], "vts_0.3": ["vts_0.3"]}


def result(name: str, seed: int, figures: dict, **settings: object) -> Result:
    return Result(name, {"model": "T", "seed": seed, **settings}, figures, [])


def test_tables_and_figures_of_an_earlier_report_are_removed(tmp_path: Path):
    full = result("a", 1, {"validation/rate": 30.0, "validation/reconstruction_bleu": 90.0})
    for shown, there in ((full, True), (result("b", 1, {"samples/mauve": 0.9}), False)):
        groups = grouped([shown])
        drawn = write_figures(tmp_path, groups)
        page = write_tables(tmp_path, groups, [], drawn)
        names = ("frontier.tex", "frontier.csv", "reconstruction_against_rate.png", "reconstruction_against_rate.pdf")
        assert all((tmp_path / name).exists() == there for name in names)
        assert ("## Frontier" in page) == there
    assert (tmp_path / "generation.tex").exists()


def test_runs_that_start_from_different_runs_are_no_seeds_of_one_another():
    sources = (("rate-60", 1), ("rate-30", 2), ("rate-30", 0))
    results = [result(f"x15-from-{source}", seed, {}, start_from=source) for source, seed in sources]
    assert [len(group.results) for group in grouped(results)] == [1, 2]
    one = [result(f"n-s{seed}", seed, {}, start_from="t-s1") for seed in (1, 2, 3)]
    assert [len(group.results) for group in grouped(one)] == [3]


def test_runs_that_start_from_runs_of_their_seed_are_one_row():
    results = [result(f"n-s{seed}", seed, {}, start_from=f"t-s{seed}") for seed in (1, 2, 3)]
    results.append(result("m-s1", 1, {}, start_from="u-s1"))
    assert [len(group.results) for group in grouped(results)] == [3, 1]


def test_other_data_and_a_repeated_seed_are_no_further_seeds(tmp_path: Path):
    names = ("t-s1", "t-s2", "again-s2", "other-s3")
    for name, seed in zip(names, (1, 2, 2, 3), strict=True):
        identity = {"fingerprint": "another" if name.startswith("other") else "abc"}
        files = ExperimentFiles.of(tmp_path, "nvib", name)
        write_record(
            files.config, new_config(MODELS["T"](vocabulary_size=9), TrainingSettings(seed=seed), "tiny", identity)
        )
        write_record(files.summary, {"best_epoch": 1, "test/reconstruction_bleu": 1.0})
    results, _ = from_outputs(tmp_path, "nvib", names)
    assert [[r.name for r in group.results] for group in grouped(results)] == [
        ["t-s1", "t-s2"],
        ["again-s2"],
        ["other-s3"],
    ]


def test_a_result_without_a_fingerprint_joins_its_kind_if_there_is_one():
    old, new, other = (result(f"t-s{n}", n, {}, data_fingerprint=data) for n, data in enumerate((None, "abc", "def")))
    del old.settings["data_fingerprint"]
    assert [[r.name for r in group.results] for group in grouped([old, new])] == [["t-s0", "t-s1"]]
    apart = [[r.name for r in group.results] for group in grouped([old, new, other])]
    assert apart == [["t-s0"], ["t-s1"], ["t-s2"]], "it may be either's"


def test_runs_with_equal_names_and_figures_of_some_seeds_are_distinguished(tmp_path: Path):
    bleu, perplexity = "test/reconstruction_bleu", "test/reconstruction_perplexity"
    results = [
        *(result("t", 1, {bleu: 10.0 * delta}, delta=delta) for delta in (1, 2, 3)),
        *(result(f"n-s{seed}", seed, {bleu: 50.0, **({perplexity: 2.0} if seed < 3 else {})}) for seed in (1, 2, 3)),
    ]
    page = write_tables(tmp_path, grouped(results), [], [])
    assert "| t | T | 1 | 10.0 | – |\n| t (2) | T | 1 | 20.0 | – |\n| t (3) | T | 1 | 30.0 | – |" in page
    assert "| n | T | 3 | 50.0 ± 0.0 | 2.00 ± 0.00 (2) |" in page
    rows = {row["group"]: row for row in csv.DictReader((tmp_path / "reconstruction.csv").open())}
    assert [rows["n"][f"{figure} n"] for figure in (bleu, perplexity)] == ["3", "2"]
    assert rows["t"][f"{perplexity} mean"] == ""


def test_real_text_and_unigrams_are_rows_over_all_experiments_that_have_them(tmp_path: Path):
    perplexity, bleu = "samples/forward_perplexity", "samples/same_draw_bleu"
    real = {f"{perplexity}_of_real_text": 274.0, f"{perplexity}_of_unigrams": 9000.0}
    results = [
        result("old", 1, {perplexity: 400.0}),
        result("n-s1", 1, {perplexity: 300.0, bleu: 5.0, **real}, delta=1),
        result("n-s2", 2, {perplexity: 320.0, bleu: 7.0, **real, f"{perplexity}_of_real_text": 276.0}, delta=1),
        Result("lm", {"model": "LM", "seed": 1}, {perplexity: 54.0, **real}, []),
    ]
    page = write_tables(tmp_path, grouped(results), [], [])
    assert page.split("## Generation\n\n")[1].splitlines() == [
        "|  | model | seeds | F-PPL | BLEU of the same draw |",
        "| --- | --- | ---: | ---: | ---: |",
        "| old | T | 1 | 400.0 | – |",
        "| n | T | 2 | 310.0 ± 14.1 | 6.00 ± 1.41 |",
        "| lm | LM | 1 | 54.0 | – |",
        "| real text | – | – | 274.7 ± 1.2 | – |",
        "| unigrams | – | – | 9000.0 | – |",
    ]
    rows = {row["group"]: row for row in csv.DictReader((tmp_path / "generation.csv").open())}
    assert [rows["real text"][f"{perplexity} {part}"] for part in ("mean", "n")] == ["274.66667", "3"]
    assert [rows["unigrams"][f"{perplexity} {part}"] for part in ("sd", "n")] == ["", "3"]
    assert (rows["lm"]["model"], rows["unigrams"]["model"], rows["unigrams"][f"{bleu} mean"]) == ("LM", "", "")
    assert r"real text & -- & -- & 274.7 $\pm$ 1.2 & -- \\" in (tmp_path / "generation.tex").read_text()


def test_experiments_of_an_earlier_version_are_reported_without_rows_of_controls(tmp_path: Path):
    page = write_tables(tmp_path, grouped([result("old", 1, {"samples/forward_perplexity": 400.0})]), [], [])
    assert page.rstrip().endswith("| old | T | 1 | 400.0 |")


def test_mauve_is_drawn_against_the_rate(tmp_path: Path):
    figures = {"validation/rate": 30.0, "samples/mauve": 0.7}
    assert write_figures(tmp_path, grouped([result("n", 1, figures)])) == ["mauve_against_rate.png"]


@pytest.mark.slow
def test_the_report_holds_means_and_deviations_dashes_and_failures(outputs: Path):
    shown = run("report.py", "--OUTPUT_DIR", outputs, fresh=True).stdout
    report = outputs / "nvib" / "report"
    page = (report / "report.md").read_text()
    mean, deviation = statistics.mean(BLEU.values()), statistics.stdev(BLEU.values())
    assert f"| nvib | NVIB | 3 | {mean:.1f} ± {deviation:.1f} |" in page
    assert "| vts_0.3 | VTS | 1 | 15.0 |" in page
    generation = page.split("## Generation")[1].split("##")[0]
    assert "| nvib | NVIB | 3 | 92.0 ± 1.0 | 200.0 ± 0.0 |" in generation
    assert "| vts_0.6 | VTS | 1 | – | – |" in generation
    assert "- burst: the loss became nan at step 7" in page
    assert "- begun: training has not finished: 1 epochs are done" in page
    assert "burst: the loss became nan at step 7" in shown
    rows = {row["group"]: row for row in csv.DictReader((report / "reconstruction.csv").open())}
    assert float(rows["nvib"]["validation/reconstruction_bleu mean"]) == pytest.approx(mean)
    assert float(rows["nvib"]["validation/reconstruction_bleu sd"]) == pytest.approx(deviation)
    assert rows["vts_0.3"]["validation/reconstruction_bleu sd"] == ""
    latex = (report / "reconstruction.tex").read_text()
    assert rf"nvib & NVIB & 3 & {mean:.1f} $\pm$ {deviation:.1f} \\" in latex
    assert r"vts\_0.3 & VTS & 1 & 15.0" in latex
    assert latex.count(r"\toprule") == latex.count(r"\midrule") == latex.count(r"\bottomrule") == 1
    for name in ("reconstruction_against_kept", "forward_against_reverse", "interpolation", "training"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (report / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f"{name}.png" in page
    every = {row["experiment"]: row for row in csv.DictReader((report / "experiments.csv").open())}
    assert float(every["nvib-s2"]["validation/reconstruction_bleu"]) == 84.0
    assert every["vts_0.3"]["samples/forward_perplexity"] == ""


def test_a_project_without_figures_is_refused_in_one_line(outputs: Path):
    refused = call("report.py", "--OUTPUT_DIR", outputs, "--EXPERIMENTS", "burst", "begun", expect=2)
    line = one_line_of_error(refused)
    assert "burst: the loss became nan at step 7" in line
    assert "begun: training has not finished: 1 epochs are done" in line


class Runs:
    """A `wandb.Api` with three runs."""

    def runs(self, path: str) -> list[SimpleNamespace]:
        assert path == "me/nvib"
        config = flat_config(new_config(MODELS["T"](vocabulary_size=9), TrainingSettings(), "tiny", IDENTITY))
        rows = [{"epoch": 1, "step": 5, "validation/cross_entropy": 1.0}, {"tables/samples": {}}]
        return [
            SimpleNamespace(
                name=f"t-{seed}",
                state=state,
                config={**config, "seed": seed, "_wandb": {}, "dropout": 0.1, "kl": 1 if seed == 1 else 1.0},
                summary={"validation/reconstruction_bleu": 70.0 + seed, "_runtime": 3},
                scan_history=lambda: iter(rows),
            )
            for seed, state in ((1, "finished"), (2, "finished"), (3, "crashed"))
        ]


def test_runs_of_wandb_are_experiments_like_any_other():
    results, failures = from_wandb("me/nvib", None, Runs())
    assert [failure.name for failure in failures] == ["t-3"]
    assert "crashed" in failures[0].reason
    (group,) = grouped(results)
    assert group.label == "t"
    assert group.values("validation/reconstruction_bleu") == [71.0, 72.0]
    assert [len(result.history) for result in results] == [1, 1]
    assert from_wandb("me/nvib", ["t-1"], Runs())[0][0].name == "t-1"


def test_an_error_of_wandb_is_one_line():
    class Away:
        def runs(self, path: str) -> list:
            raise ValueError("could not\nfind project")

    with pytest.raises(UserError, match=r"wandb did not deliver --FROM_WANDB me/x .could not find project."):
        from_wandb("me/x", None, Away())


def test_a_figure_of_text_is_no_number(outputs: Path):
    results, _ = from_outputs(outputs, "nvib", ["nvib-s1"])
    changed = dataclasses.replace(results[0], figures={"a": "text", "b": 2})
    assert [grouped([changed])[0].values(name) for name in ("a", "b", "c")] == [[], [2.0], []]
    assert json.loads((outputs / "nvib" / "nvib-s1" / "summary.json").read_text())
