"""quality.py on tiny data: planted copies, figures in JSON, summary and page, and bad input."""

import json
import re
from pathlib import Path

import pytest

from pipeline.evaluation.sample_quality import Material, coverage
from pipeline.experiments.load import load_experiment
from pipeline.experiments.tracker import fingerprint
from pipeline.experiments.weights import fingerprint_of_weights
from pipeline.runtime.files import read_record, write_record
from tests.helpers import call, one_line_of_error, prepare_tiny, run

TINY = ("--DIM_H", 16, "--BATCH_SIZE", 32, "--DATA", "tiny", "--MAX_STEPS", 12)
MARKUP = "<script>alert(1)</script> & <b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, an NVAE with samples, and a language model; one sample is a copy and one a near copy."""
    folder = tmp_path_factory.mktemp("quality")
    prepare_tiny(folder / "data")
    for name, model in (("nvib", "NVIB"), ("lm", "LM")):
        call("train.py", *at(folder, name), "--MODEL", model, *TINY)
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 40, "--DECODING", "sample")
    planted = [*exact_and_near(loaded(folder).data), MARKUP]
    with open(experiment(folder) / "samples.jsonl", "a") as file:
        file.writelines(json.dumps({"text": t, "drawn_length": 9, "tokens_generated": 8}) + "\n" for t in planted)
    return folder


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def experiment(folder: Path, name: str = "nvib") -> Path:
    return folder / "outputs" / "nvib" / name


def loaded(folder: Path, name: str = "nvib"):
    return load_experiment(folder / "outputs", "nvib", name, folder / "data")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def exact_and_near(data) -> tuple[str, str]:
    """A training sentence, and another with one of its words replaced."""
    texts = sorted(data.tokenizer.decode_batch(data.splits["train"]["input_ids"]), key=len)
    words = texts[-1].split()
    words[5] = "cat" if words[5] != "cat" else "dog"
    return texts[-2], " ".join(words)


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict:
    """`quality.json` of a run with a judge."""
    run("quality.py", *at(folder, "nvib"), "--LANGUAGE_MODEL", "lm", "--DROP_COPIES", "True", fresh=True)
    return json.loads((experiment(folder) / "quality.json").read_text())


@pytest.mark.slow
def test_planted_copies_are_listed_first_and_dropped_into_files_beside_the_original(folder: Path, measured: dict):
    exact, near = exact_and_near(loaded(folder).data)
    worst = measured["worst_cases"]["synthetic"]
    assert [row["text"] for row in worst[:2]] == [exact, near]
    assert worst[0]["distance"] == 0.0
    assert worst[0]["nearest"] == exact
    assert 0.0 < worst[1]["distance"] <= 0.2
    rows = lines(experiment(folder) / "samples.jsonl")
    kept = lines(experiment(folder) / "samples_without_copies.jsonl")
    assert len(rows) == 43
    assert exact not in [row["text"] for row in kept]
    assert near not in [row["text"] for row in kept]
    assert kept == [row for row in rows if row in kept]
    shares = measured["figures"]["copies"]
    assert len(kept) == round(43 * (1 - shares["near_copies"]["synthetic"]))
    assert shares["exact_copies"]["synthetic"] >= 1 / 43
    text = (experiment(folder) / "samples_without_copies.txt").read_text()
    assert text == "".join(row["text"] + "\n" for row in kept)
    written = [row["text"] + "\n" for row in kept if row["text"].strip()]  # an empty sample is no document
    assert (experiment(folder) / "synthetic.txt").read_text() == "".join(written)
    assert "synthetic.txt is without the copies, too" in measured["dropped"]


@pytest.mark.slow
def test_json_summary_and_page_have_every_figure_with_that_of_real_text(folder: Path, measured: dict):
    summary = json.loads((experiment(folder) / "summary.json").read_text())
    shown = (experiment(folder) / "quality.html").read_text()
    missing = {}
    for section, figures in measured["figures"].items():
        assert f"<h2>{section.capitalize()}" in shown
        for name, figure in figures.items():
            values = figure["synthetic"], figure["held_out_real"]
            if None in values:
                assert values == (None, None)
                assert f"quality/{name}" not in summary
                missing[name] = figure["missing"]
                continue
            for suffix, value in (("", values[0]), ("_of_real_text", values[1])):
                assert summary[f"quality/{name}{suffix}"] == (value["value"] if isinstance(value, dict) else value)
    assert set(missing) - {"semantic_mauve"} == {"mauve", "reverse_perplexity"}  # MiniLM may be installed
    assert "reverseSampleEvaluation.py --EXPERIMENT_NAME nvib --LANGUAGE_MODEL lm" in missing["reverse_perplexity"]
    assert "copies are of all of them; unless" in measured["compared"], "R-PPL is not named where it is missing"
    assert "every other figure" not in measured["compared"], "some have numbers of their own, in a note"
    assert re.match(r"The attack is on \d+ training sentences and \d+ held-out ones", measured["notes"]["membership"])
    assert "needs at least 40 sentences" in missing["mauve"]
    assert summary["quality/forward_perplexity"] > 1
    assert summary["quality/membership_auc_calibrated"] != summary["quality/membership_auc"]


def test_reverse_perplexity_is_read_if_it_is_of_these_samples_and_this_judge(folder: Path):
    known, judge = loaded(folder), loaded(folder, "lm")
    before = read_record(known.files.summary, "")
    rows = lines(experiment(folder) / "samples.jsonl")
    key = "validation/reverse_perplexity"
    texts = [row["text"] for row in rows]
    weights = fingerprint_of_weights(judge.files.best)
    for measured_of, by, taken in (
        (texts, {"judge": "lm"}, True),
        (texts, {"judge": "lm", "weights": weights}, True),
        (texts, {"judge": "lm", "weights": "0" * 16}, False),
        (texts[::-1], {"judge": "lm"}, False),
        (texts, {"judge": "other"}, False),
    ):
        new = {key: 7.0, f"{key}_of_real_text": 5.0, f"{key}_samples": fingerprint(measured_of)}
        write_record(known.files.summary, before | new | {f"{key}_{about}": value for about, value in by.items()})
        figure = next(coverage(Material(known, rows, "validation", judge, 0.2, None, 32)))
        assert (figure.synthetic, figure.real) == ((7.0, 5.0) if taken else (None, None))
        assert bool(figure.missing) is not taken
    write_record(known.files.summary, before)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lm", (), "generate them with sample.py --EXPERIMENT_NAME lm"),
        ("bad", (), "no experiment 'bad'"),
        ("nvib", ("--LANGUAGE_MODEL", "nobody"), "no experiment 'nobody'"),
        ("nvib", ("--NEAR_COPY_DISTANCE", "0.6"), "must be at least 0 and at most 0.5, got 0.6"),
        ("nvib", ("--DROP_COPIES", "yes"), "must be a number, got 'yes'; True and False are taken too"),
    ],
)
def test_bad_input_is_one_line_and_writes_no_page(folder: Path, name: str, arguments: tuple, message: str):
    refused = call("quality.py", *at(folder, name), *arguments, expect=2)
    assert message in one_line_of_error(refused)
    assert not (experiment(folder, name) / "quality.html").exists() or name == "nvib"
