"""Write the tables of docs/scaling.md, docs/pretrained.md and docs/priors.md from the measurements in benchmarks/.

    python -m benchmarks.doc_tables

Each table is between `<!-- table: <name> -->` and `<!-- end -->`, and is replaced as a whole. No figure in it is copied
by hand. Columns name the origin of a figure: measured, on paper (`benchmarks.costs`), or extrapolated.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import costs, pretrained_tables, prior_tables
from benchmarks.costs import Model
from benchmarks.doc_facts import (
    BATCHES,
    CORPORA,
    LENGTH,
    MODELS,
    SENTENCES,
    TOKENS,
    Corpus,
    bytes_,
    cpu_speed,
    duration,
    operations,
    preparation,
    rounded,
    sentence_bytes,
    table,
    text_bytes,
)
from benchmarks.gpu import SIZES as GPU_SIZES
from pipeline.cli.parser import Parser
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.files import write_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "scaling.json"
ON_GPU = ROOT / "benchmarks" / "gpu.json"
TEXTS = tuple(ROOT / "docs" / f"{page}.md" for page in ("scaling", "pretrained", "priors"))
MARKED = re.compile(r"(<!-- table: (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# The tables, by their names in the page.


def machine(results: dict[str, Any]) -> str:
    """Format machine, date and versions of the measurements."""
    parts = ("processes", "corpus", "model")
    names = ("machine", "torch", "date", "load")
    rows = ([part, *(str(results[part][name]) for name in names)] for part in parts)
    return table(("measured", "machine", "torch", "date", "load before"), rows)


def processes(results: dict[str, Any]) -> str:
    """Format the speed of training by the number of processes."""
    runs = results["processes"]["runs"]
    one = next(iter(runs.values()))["tokens_per_second"]
    return table(
        ("", "threads each", "sentences a step", "tokens a second", "ratio to one process"),
        (
            [
                name,
                str(run["threads"]),
                str(run["processes"] * run["batch"]),
                f"{run['tokens_per_second']:,.0f} ± {run['spread']:,.0f}",
                f"{run['tokens_per_second'] / one:.2f}",
            ]
            for name, run in runs.items()
        ),
    )


def corpus(results: dict[str, Any]) -> str:
    """Format the cost of preparation by the size of the corpus."""
    return table(
        ("training file", "sentences", "seconds", "sentences a second", "peak memory", "peak anonymous memory", "disk"),
        (
            [
                f"{row['repeats']} × ({bytes_(row['training_bytes'])})",
                f"{row['sentences']:,}",
                rounded(row["seconds"]),
                rounded(row["sentences"] / row["seconds"]),
                bytes_(1e9 * row["peak_gb"]),
                bytes_(1e9 * row["anonymous_gb"]),
                bytes_(row["disk_bytes"]),
            ]
            for row in results["corpus"]["rows"]
        ),
    )


def growth(results: dict[str, Any]) -> str:
    """Format the cost of a step by its sizes, with the exponent of growth between the two largest."""

    def rows() -> Iterable[list[str]]:
        for quantity in dict.fromkeys(row["varied"] for row in results["model"]["rows"]):
            of = [row for row in results["model"]["rows"] if row["varied"] == quantity]
            ends = of[-2:]
            power = costs.exponent([row[quantity] for row in ends], [row["seconds"] for row in ends])
            yield [
                quantity,
                " · ".join(f"{row[quantity]:,}" for row in of),
                " · ".join(rounded(1e3 * row["seconds"]) for row in of),
                f"{power:.1f}",
                " · ".join(f"{row['peak_gb']:.2f}" for row in of),
            ]

    return table(("varied", "values", "ms a step", "exponent at the end", "peak GB"), rows())


def sizes(results: dict[str, Any]) -> str:
    """Format the computed sizes of the models."""
    return table(
        (
            "",
            "V",
            "L × D",
            "parameters",
            "FLOPs a token",
            "vocabulary",
            "attention",
            "NVIB",
            "state",
            "kept a token",
        ),
        (
            [
                name,
                f"{model.vocabulary:,}",
                f"{model.layers} × {model.width}",
                f"{costs.size(model) / 1e6:.1f} M",
                f"{costs.training_flops(model, LENGTH) / 1e6:,.1f} M",
                *(f"{part:.1f} %" for part in shares(model)),
                bytes_(costs.state_bytes(model)),
                bytes_(costs.activation_bytes(model, LENGTH)),
            ]
            for name, model in MODELS.items()
        ),
    )


def shares(model: Model) -> list[float]:
    """Return the shares of the operations, in percent: vocabulary, attention and bottleneck."""
    parts = costs.forward_flops(model, LENGTH)
    names = ("projection to the vocabulary", "attention", "bottleneck")
    return [100 * parts[name] / sum(parts.values()) for name in names]


def gpu(results: dict[str, Any]) -> str:
    """Format the computed cost of a step on one H100."""

    def rows() -> Iterable[list[str]]:
        for name, model in MODELS.items():
            for batch in BATCHES:
                tokens = batch * LENGTH
                spent = costs.gpu_seconds(model, tokens, LENGTH, operations(results, model.layers))
                whole = costs.step_seconds(spent)
                useful = tokens * costs.training_flops(model, LENGTH) / whole / costs.H100.flops
                yield [
                    f"{name}, {batch:,} sentences",
                    *(duration(spent[part]) for part in ("products", "logits", "vectors", "optimizer", "launches")),
                    duration(whole),
                    f"{rounded(tokens / whole / 1e3)} k",
                    f"{100 * useful:.1f} %",
                ]

    return table(
        ("", "products", "logits", "vectors", "optimizer", "launches", "step", "tokens a second", "of the peak"), rows()
    )


def on_gpu(results: dict[str, Any]) -> str:
    """Format the steps measured on a GPU beside the computed ones."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in json.loads(ON_GPU.read_text())["training"]:
        rows.setdefault(row["size"], {})[f"{row['model']} {row['precision']}"] = row
    figures = []
    for size, row in rows.items():
        step, (width, layers, sentences) = row["NVIB bf16"], GPU_SIZES[size]
        model = Model(width=width, layers=layers, heads=width // 64)
        started = operations(results, layers)
        spent = costs.gpu_seconds(model, sentences * LENGTH, LENGTH, started, costs.H200)
        figures.append(
            [
                f"{layers} × {width}, {sentences:,} sentences",
                duration(step["step_seconds"]),
                duration(costs.step_seconds(spent)),
                duration(row["NVIB fp32"]["step_seconds"]),
                duration(row["T bf16"]["step_seconds"]),
                f"{step['tokens_per_second'] / 1e3:,.0f} k",
                f"{step['peak_gb']:.1f}",
            ]
        )
    header = ("L × D", "bfloat16", "on paper", "float32", "`T`, bfloat16", "tokens a second", "peak GB")
    return table(header, figures)


def network(results: dict[str, Any]) -> str:
    """Format the computed exchange of gradients among 64 GPUs."""

    def rows() -> Iterable[list[str]]:
        for name, model in MODELS.items():
            sent = costs.exchanged(costs.size(model), 64)
            yield [
                name,
                bytes_(sent),
                bytes_(costs.exchanged_sharded(costs.size(model), 64)),
                *(duration(sent / bandwidth) for bandwidth in costs.NETWORKS.values()),
                *(
                    f"{costs.even_tokens(model, 64, bandwidth, LENGTH) / LENGTH:,.0f}"
                    for bandwidth in costs.NETWORKS.values()
                ),
            ]

    names = [name.split(",")[0] for name in costs.NETWORKS]
    return table(
        ("", "sent a step", "FSDP", *(f"over {name}" for name in names), *(f"even at, {name}" for name in names)),
        rows(),
    )


def limits(results: dict[str, Any]) -> str:
    """Format the time that 1, 8 and 64 GPUs take for 10^9 sentences, and its largest part."""
    networks = {1: None, 8: "NVLink", 64: "InfiniBand, 400 Gb/s"}

    def rows() -> Iterable[list[str]]:
        for name in ("default", "12 × 1024"):
            model = MODELS[name]
            for batch in BATCHES:
                spent = costs.gpu_seconds(model, batch * LENGTH, LENGTH, operations(results, model.layers))
                for count, link in networks.items():
                    step = costs.step_seconds(spent)
                    exchange = 0.0
                    if link is not None:
                        exchange = costs.exchanged(costs.size(model), count) / costs.NETWORKS[link]
                    # Sentences a second if computation and exchange do not overlap.
                    speed = count * batch / (step + exchange)
                    causes = {**spent, "network": exchange}
                    yield [
                        f"{name}, {batch:,} sentences",
                        str(count),
                        duration(step),
                        duration(exchange) if exchange else "–",
                        max(causes, key=lambda cause: causes[cause]),
                        f"{rounded(speed / 1e3)} k",
                        duration(SENTENCES / speed),
                        bytes_(speed * sentence_bytes(results)) + "/s",
                        f"{rounded(speed / costs.SSD_READS, 2)}",
                    ]

    return table(
        (
            "",
            "GPUs",
            "step",
            "exchange",
            "longest",
            "sentences a second",
            "10⁹ sentences",
            "read in order",
            "SSDs if at random",
        ),
        rows(),
    )


def cpu(results: dict[str, Any]) -> str:
    """Format the time for 10^9 sentences on the machine of the measurements."""
    speed, per_second = cpu_speed(results), 1 / preparation(results, "sentences", "seconds")[1]
    achieved = speed * costs.training_flops(Model(), LENGTH)
    return table(
        ("on the machine of the measurements", "figure", "10⁹ sentences"),
        [
            ["preparation (sentences a second)", rounded(per_second), duration(SENTENCES / per_second)],
            ["training, default sizes (tokens a second)", rounded(speed), duration(TOKENS / speed)],
            ["the same (operations a second)", f"{achieved / 1e9:,.0f} G", "–"],
        ],
    )


def storage(results: dict[str, Any]) -> str:
    """Format the disk space of 10^9 sentences, and the memory of their order."""
    held, text = sentence_bytes(results), text_bytes(results)
    ids = 4 * (LENGTH + 1)  # int32, start token included
    of_a_core = 1 / preparation(results, "sentences", "seconds")[1] / results["corpus"]["cores"]
    window = TrainingSettings.shuffle_window
    return table(
        ("", "a sentence", "10⁹ sentences"),
        [
            ["prepared, on disk (measured)", bytes_(held), bytes_(SENTENCES * held)],
            ["token ids alone, on disk (on paper)", bytes_(ids), bytes_(SENTENCES * ids)],
            ["text behind a sentence (measured)", bytes_(text), bytes_(SENTENCES * text)],
            ["an index of all sentences, in each process (on paper)", "8 B", bytes_(8 * SENTENCES)],
            [f"an index of a window of {window:,} sentences (on paper)", "8 B", bytes_(8 * window)],
            ["the sentences of such a window (measured bytes)", bytes_(held), bytes_(window * held)],
            ["a random read of a sentence (on paper)", bytes_(costs.BLOCK), bytes_(costs.BLOCK * SENTENCES)],
            ["prepared by 1 core (extrapolated)", duration(1 / of_a_core), duration(SENTENCES / of_a_core)],
            ["prepared by 64 cores (extrapolated)", "–", duration(SENTENCES / of_a_core / 64)],
        ],
    )


def extrapolated(results: dict[str, Any], corpus: Corpus) -> dict[str, float]:
    """Extrapolate sentences, tokens, preparation, disk and an epoch of a corpus from the measurements.

    Assumes the same number of sentences and tokens per byte of text as in the measured corpus.
    """
    measured = results["corpus"]["rows"][0]
    trained = corpus.share * corpus.training / measured["training_bytes"]  # of the measured training file
    start, more = preparation(results, "training_bytes", "seconds")
    empty, held = preparation(results, "training_bytes", "disk_bytes")
    tokens = trained * measured["training_tokens"]
    return {
        "sentences": trained * measured["training_sentences"],
        "tokens": tokens,
        "preparation": start + more * corpus.whole,
        "disk": empty + held * corpus.whole,
        "epoch": tokens / cpu_speed(results),
    }


def corpora(results: dict[str, Any]) -> str:
    """Format the extrapolated cost of the corpora on the hub."""

    def rows() -> Iterable[list[str]]:
        for name, corpus in CORPORA.items():
            found = extrapolated(results, corpus)
            yield [
                f"`{name}`",
                f"{corpus.documents:,}",
                bytes_(corpus.training),
                bytes_(corpus.download),
                f"{found['sentences'] / 1e6:.1f} M",
                f"{found['tokens'] / 1e6:.0f} M",
                duration(found["preparation"]),
                bytes_(found["disk"]),
                duration(found["epoch"]),
            ]

    return table(
        ("", "documents", "text", "download", "sentences*", "tokens*", "preparation*", "disk*", "an epoch*"),
        rows(),
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    function.__name__: function
    for function in (machine, processes, corpus, growth, sizes, gpu, on_gpu, network, limits, cpu, storage, corpora)
}

# Tables of a measurement of their own, benchmarks/<name>.json.
OF_OWN_FILE: dict[str, Callable[[dict[str, Any]], str]] = {
    "pretrained_speed": pretrained_tables.speed,
    "dials": pretrained_tables.dials,
    "own_texts": pretrained_tables.own_texts,
    "priors": prior_tables.priors,
    "priors_wikitext": prior_tables.priors,
    "priors_pretrained": prior_tables.priors,
    "imperfect_latents": prior_tables.imperfect_latents,
}


def written(name: str, results: dict[str, Any]) -> str:
    """Return a table by its name.

    Raises:
        KeyError: there is no such table.
    """
    if name in OF_OWN_FILE:
        return OF_OWN_FILE[name](json.loads((ROOT / "benchmarks" / f"{name}.json").read_text()))
    return TABLES[name](results)


def filled(text: str, results: dict[str, Any]) -> str:
    """Return a text with all of its marked tables replaced.

    Args:
        text: a page.
        results: content of scaling.json.

    Raises:
        KeyError: the text names an unknown table.
    """
    return MARKED.sub(lambda found: found[1] + "\n" + written(found["name"], results) + "\n" + found[3], text)


def main() -> None:
    """Replace the tables in the pages."""
    Parser(__doc__ or "").parse_args()
    results = json.loads(RESULTS.read_text())
    for path in TEXTS:
        write_text(path, filled(path.read_text(encoding="utf-8"), results))


if __name__ == "__main__":
    main()
