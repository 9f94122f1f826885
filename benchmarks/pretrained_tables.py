"""Tables of docs/pretrained.md; `benchmarks.doc_tables` writes them."""

from typing import Any

from benchmarks.doc_facts import table

AIMS = {  # rows of the table of speed, with the largest ratio that is aimed at
    "train_step_over_lora": ("training step, over a plain LoRA step on as many positions", 1.3),
    "memory_over_lora": ("peak memory of training, over that of the LoRA steps", 1.3),
    "generate_1_over_base": ("generated token, batch 1, over the base's own `generate` with its cache", 1.2),
    "generate_32_over_base": ("generated token, batch 32, over the same", 1.2),
}


def speed(results: dict[str, Any]) -> str:
    """Format the ratios of `benchmarks.pretrained_speed`, with machine and date."""
    peaks = ", ".join(f"{results[f'{kind}_train_peak_gb']:.2f} GB" for kind in ("own", "plain"))

    def cells(name: str) -> list[str]:
        label, aim = AIMS[name]
        spread = results.get(f"{name}_spread")
        ratio = f"{results[name]:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
        return [f"{label} ({peaks})" if name == "memory_over_lora" else label, ratio, f"{aim:g}"]

    caption = f"Caption: {results['machine']}, torch {results['torch']}, {results['date']}."
    return f"{caption}\n\n" + table(("", "ratio", "aim, at most"), map(cells, AIMS))
