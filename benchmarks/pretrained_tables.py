"""Tables of docs/pretrained.md; `benchmarks.doc_tables` writes them."""

from typing import Any

from benchmarks.doc_facts import over_seeds, table

AIMS = {  # rows of the table of speed, with the largest ratio that is aimed at
    "train_step_over_lora": ("training step, over a plain LoRA step on as many positions", 1.3),
    "memory_over_lora": ("peak memory of training, over that of the LoRA steps", 1.3),
    "generate_1_over_base": ("generated token, batch 1, over the base's own `generate` with its cache", 1.2),
    "generate_32_over_base": ("generated token, batch 32, over the same", 1.2),
}
FLUENCY = {"bits_per_character": 2, "token_perplexity": 1}  # figures with their decimals
ESCAPED = "\\|"  # a vertical line in a cell
CONTROLS = {"sentences": "the sentences themselves", "others": "other sentences in their place"}


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


def dials(results: dict[str, Any]) -> str:
    """Format the figures of `benchmarks.dials`, and the near-samples of the first sentence in each setting."""
    header = ("", "decoding", "BLEU", "similarity", "copies", "bits a character", "perplexity a token")

    def cells(label: str, decoding: str, row: dict[str, Any]) -> list[str]:
        return [
            label,
            decoding,
            f"{row['bleu']:.1f}",
            f"{row['similarity']:.2f} ± {row['similarity_error']:.2f}",
            f"{100 * row['copies']:.0f} %",
            *("–" if row[name] is None else f"{row[name]:.{digits}f}" for name, digits in FLUENCY.items()),
        ]

    def flag(row: dict[str, Any]) -> str:
        return f"`--{row['dial'].upper()} {row['value']:g}`"

    rows = [cells(label, "–", results["controls"][name]) for name, label in CONTROLS.items()]
    rows += [cells(flag(row), row["decoding"], row) for row in results["rows"]]
    unscored = sum(row["unscored"] for row in results["rows"])
    caption = (
        f"Caption: {results['count']} sentences of the {results['subset']} split, one near-sample each, "
        f"seed {results['seed']}; top-p {results['top_p']:g} where tokens are drawn; similarity is the mean cosine of "
        f"MiniLM's vectors, ± its standard error; judge {results['judge']}"
        + (f", {unscored} near-samples not scored" if unscored else "")
        + f"; {results['machine']}, {results['date']}."
    )
    (first,) = results["examples"]
    method = results["rows"][0]["decoding"]
    examples = [row for row in results["rows"] if row["decoding"] == method]
    shown = "".join(f"| {flag(row)} | {row['examples'][0].replace('|', ESCAPED)} |\n" for row in examples)
    return (
        f"{caption}\n\n{table(header, rows)}\n"
        f"The near-samples of the first sentence ({method}), “{first}”:\n\n|  | near-sample |\n| --- | --- |\n{shown}"
    )


OWN_MODELS = {
    "nvae": "NVAE around the base, plain prior",
    "learned": "the same NVAE, learned prior",
    "lm": "the base without a latent",
    "scratch": "NVAE from scratch",
}
OWN_FIGURES = {  # names in benchmarks/own_texts.json, with their heads, decimals and scale
    "bleu": ("BLEU, test", 1, 1),
    "rate": ("rate", 1, 1),
    "bits_per_character": ("bits a character", 2, 1),
    "token_perplexity": ("perplexity a token", 1, 1),
    "mauve": ("MAUVE", 3, 1),
    "reverse": ("R-PPL", 1, 1),
    "distinct_2": ("distinct-2", 3, 1),
    "self_bleu": ("self-BLEU", 1, 1),
    "copies": ("copies, %", 1, 100),
    "runs": ("with 8 words of a training text, %", 1, 100),
    "membership": ("membership", 2, 1),
    "same_draw": ("BLEU of the same draw", 2, 1),
    "different_draws": ("of different draws", 2, 1),
    "minutes": ("minutes of the processor", 1, 1),
}


def own_texts(results: dict[str, Any]) -> str:
    """Format the figures of `benchmarks.own_texts`: a table and the first samples of each file."""

    def figures(found: list[dict[str, Any]]) -> list[str]:
        return [
            over_seeds([None if one.get(key) is None else scale * one[key] for one in found], digits)
            for key, (_, digits, scale) in OWN_FIGURES.items()
        ]

    tables = []
    for name in dict.fromkeys(case["file"] for case in results["cases"].values()):
        cases = [case for case in results["cases"].values() if case["file"] == name]
        models = [case["models"] for case in cases]
        real = [case["lm"]["real"] | {"reverse": own["real_reverse"]} for case, own in zip(models, cases, strict=True)]
        rows = [("real text", real)]
        rows += [(label, [one[key]["own"] for one in models if key in one]) for key, label in OWN_MODELS.items()]
        header = (name, "seeds", *(head for head, _, _ in OWN_FIGURES.values()))
        cells = [[label, str(len(found)), *figures(found)] for label, found in rows if found]
        examples = [
            f"| {label} | {text.replace('|', ESCAPED)} |\n"
            for key, label in OWN_MODELS.items()
            for text in models[0].get(key, {"own": {"examples": []}})["own"]["examples"]
        ]
        first = f"First samples of seed {cases[0]['seed']}, not chosen:\n\n|  | sample |\n| --- | --- |\n"
        tables.append(f"{table(header, cells)}\n{first}{''.join(examples)}")
    caption = (
        f"Caption: half of each file's texts to train on, a tenth to validate, the rest to test; {results['count']} "
        "samples of each model with top-p 0.95, beside as many test texts where there are so many; the judge is the "
        f"untouched base; R-PPL is the test perplexity of the base after at most {results['judge_steps']} steps on the "
        "samples (real text: on training texts); mean ± standard deviation over the seeds; "
        f"{results['machine']}, {results['threads']} thread beside other work, {results['date']}."
    )
    return f"{caption}\n\n" + "\n".join(tables)
