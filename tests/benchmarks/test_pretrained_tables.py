"""The tables of docs/pretrained.md: each figure is that of its measurement."""

import json

from benchmarks import doc_tables
from benchmarks.pretrained_tables import speed

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
