"""The tables of docs/pretrained.md: each figure is that of its measurement."""

import json

from benchmarks import doc_tables
from benchmarks.pretrained_tables import dials, speed

RATIOS = {
    "train_step_over_lora": 1.26,
    "train_step_over_lora_spread": 0.034,
    "memory_over_lora": 0.5,
    "own_train_peak_gb": 2.0,
    "plain_train_peak_gb": 4.0,
    "generate_1_over_base": 1.0,
    "generate_1_over_base_spread": 0.0,
    "generate_32_over_base": 1.5,
    "generate_32_over_base_spread": 0.125,
    "machine": "a machine, 3 threads",
    "torch": "9.0",
    "date": "2026-01-02",
}


def test_the_table_of_speed_has_every_ratio_with_its_spread_and_aim():
    caption, _, _, _, *rows = speed(RATIOS).splitlines()
    assert caption == "Caption: a machine, 3 threads, torch 9.0, 2026-01-02."
    assert [row.split(" | ")[1:] for row in rows] == [
        ["1.26 ± 0.03", "1.3 |"],
        ["0.50", "1.3 |"],
        ["1.00 ± 0.00", "1.2 |"],
        ["1.50 ± 0.12", "1.2 |"],
    ]
    assert "(2.00 GB, 4.00 GB)" in rows[1]


def test_a_page_takes_the_table_from_the_file_of_its_measurement():
    page = "a\n<!-- table: pretrained_speed -->\nold\n<!-- end -->\nb\n"
    expected = speed(json.loads((doc_tables.ROOT / "benchmarks" / "pretrained_speed.json").read_text()))
    assert doc_tables.filled(page, {}) == f"a\n<!-- table: pretrained_speed -->\n\n{expected}\n<!-- end -->\nb\n"


def test_the_table_of_dials_has_the_controls_first_and_the_settings_by_their_flags():
    row = {"bleu": 51.26, "similarity": 0.5, "similarity_error": 0.031, "copies": 0.25, "unscored": 0}
    row |= {"bits_per_character": 1.004, "token_perplexity": None}
    setting = row | {"decoding": "greedy", "dial": "keep", "value": 0.5, "unscored": 2, "examples": ["a | b"]}
    about = {"count": 4, "subset": "test", "seed": 3, "top_p": 0.9, "judge": "j", "machine": "m", "date": "d"}
    other = setting | {"decoding": "sample", "dial": "latent_temperature", "value": 2.0, "examples": ["c"]}
    page = dials({"controls": {"sentences": row, "others": row}, "examples": ["s"], "rows": [setting, other], **about})
    caption, _, _, _, same, others, kept, warm, _, first, _, _, _, *examples = page.splitlines()
    assert caption.startswith("Caption: 4 sentences of the test split, one near-sample each, seed 3; top-p 0.9 ")
    assert caption.endswith("judge j, 4 near-samples not scored; m, d.")
    assert same == "| the sentences themselves | – | 51.3 | 0.50 ± 0.03 | 25 % | 1.00 | – |"
    assert others.startswith("| other sentences in their place | – |")
    assert kept == "| `--KEEP 0.5` | greedy | 51.3 | 0.50 ± 0.03 | 25 % | 1.00 | – |"
    assert warm.startswith("| `--LATENT_TEMPERATURE 2` | sample |")
    assert first == "The near-samples of the first sentence (greedy), “s”:"
    assert examples == ["| `--KEEP 0.5` | a \\| b |"]
