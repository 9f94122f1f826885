"""The tables of the operating point: means over seeds, controls as rows, and nothing outside the marks changed."""

from pathlib import Path

from benchmarks.rate_tables import AS_TRAINED, filled, frontier, gather, readings
from pipeline.runtime.files import read_json, write_json

BLEU, FLUENCY = "validation/reconstruction_bleu", "samples/forward_perplexity"


def experiment(model: str, seed: int, **figures: float) -> dict[str, object]:
    named = {"bleu": BLEU, "fluency": FLUENCY, "real": f"{FLUENCY}_of_real_text"}
    return {"model": model, "seed": seed, "figures": {named[name]: value for name, value in figures.items()}}


FOUND = {
    "experiments": {
        "lm": experiment("LM", 0, fluency=1.0),  # the judge is no row
        "t-s1": experiment("T", 1, bleu=80.0),
        "t-s2": experiment("T", 2, bleu=50.0),
        "rate-30-s1": experiment("NVIB", 1, bleu=60.0, fluency=300.0, real=200.0),
        "rate-30-s2": experiment("NVIB", 2, bleu=50.0, fluency=320.0, real=200.0),
    },
    "readings": [
        {"experiment": f"rate-30-s{seed}", "reading": reading, "alpha_threshold": threshold, "cross_entropy": value}
        for seed, shift in ((1, 0.0), (2, 0.2))
        for reading, threshold, value in (("plug-in", 0.1, 0.1 + shift), (AS_TRAINED, None, 0.6 + shift))
    ],
}


def cells(text: str) -> dict[str, list[str]]:
    """Cells of each row of a Markdown table, by its first one."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {first: others for first, *others in rows}


def test_a_row_has_the_means_over_its_seeds_and_the_share_of_the_transformer_of_the_same_seed():
    rows = cells(frontier(FOUND))
    assert list(rows)[2:] == ["real text", "t (T)", "rate-30 (NVIB)"]
    assert {"2", "55.0 ± 7.1", "310.0 ± 14.1", "0.88 ± 0.18"} <= set(rows["rate-30 (NVIB)"])
    assert "200.0 ± 0.0" in rows["real text"]


def test_readings_have_a_row_for_each_threshold():
    assert cells(readings(FOUND))["rate-30"] == ["0.1", "2", "0.700", "0.200"]


def test_marked_tables_are_replaced_and_nothing_else():
    page = "a\n<!-- table: frontier here -->\nold\n<!-- end -->\nb\n<!-- table: frontier other -->\nold\n<!-- end -->\n"
    new = filled(page, {"here": FOUND})
    assert new.startswith("a\n<!-- table: frontier here -->\n" + frontier(FOUND))
    assert new.split("\nb\n")[1] == page.split("\nb\n")[1]  # no runs of this data yet
    assert filled(new, {"here": FOUND}) == new


def test_experiments_that_were_gathered_before_stay(trained: Path, tmp_path: Path):
    path = tmp_path / "here.json"
    write_json(path, {"experiments": {"earlier": experiment("T", 1, bleu=80.0)}, "readings": []})
    gather(trained / "outputs", "nvib", path)
    found = read_json(path, "")["experiments"]
    assert found["earlier"] == experiment("T", 1, bleu=80.0)
    assert found["vanilla"]["model"] == "T"
