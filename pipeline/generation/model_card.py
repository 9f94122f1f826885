"""The model card of a shared model: a page on the Hugging Face hub, from its configuration and figures."""

from typing import Any

from models import MODELS
from pipeline.reporting.console import ROWS

PAPERS = "https://arxiv.org/abs/2207.13529"


def model_card(config: dict[str, Any], name: str) -> str:
    """A card in Markdown with the metadata that the hub reads in front.

    Args:
        config: `config.json` of a shared model.
        name: the model's.
    """
    model, data, figures = config["model"], config["data"], config["figures"]
    summary = MODELS[model["name"]].summary
    lengths = {int(length): count for length, count in config["length_distribution"].items()}
    shown = [(label, format(figures[key], form)) for key, label, form in ROWS if key in figures]
    prepared = _listed(data.get("settings") or {})
    lines = [
        f"# {name}",
        "",
        f"A {summary} for sentences, trained with the NVIB suite: text in, a set of vectors in the middle, text out.",
        f"The method is that of [Henderson & Fehr, ICLR 2023]({PAPERS}).",
        "",
        "## Use",
        "",
        "    from pipeline import from_pretrained                     # in a checkout of the NVIB suite",
        f'    model = from_pretrained("{name}")                        # this folder, or its name on the hub',
        "    model.generate(10, seed=1)",
        '    model.reconstruct(["the old king left the town."])',
        '    model.interpolate("the old king left the town.", "a cat saw the river.", steps=5)',
        "",
        "The weights are safetensors, and nothing of this folder is run or unpickled.",
        "",
        "## Data",
        "",
        f"`{data['name']}`, {sum(lengths.values()):,} training sentences of {min(lengths)} to {max(lengths)} tokens, "
        f"the end token counted{f' ({prepared})' if prepared else ''}. Fingerprint `{data.get('fingerprint')}`.",
        "",
        "## Sizes",
        "",
        *_table(("setting", "value"), [(key, f"{value}") for key, value in model.items()]),
        "",
        "## Figures",
        "",
        *(_table(("figure", "value"), shown) if shown else ["None were measured."]),
        "",
        "## Training",
        "",
        _listed(config.get("training", {})) + ".",
        "",
        f"Versions: {_listed(config.get('versions', {}))}.",
        "",
        "## Limits",
        "",
        f"It knows the language of `{data['name']}` and the words of its tokenizer; a sentence much longer than "
        f"{max(lengths)} tokens is beyond what it has seen. It has been trained to reconstruct sentences, not to "
        "answer or to inform: what it generates is no statement of fact, and may repeat what its data says. "
        "The rights to the data are those of its authors.",
    ]
    return f"---\n{_metadata(config, name, lengths)}\n---\n" + "\n".join(lines) + "\n"


def _metadata(config: dict[str, Any], name: str, lengths: dict[int, int]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    figures, data = config["figures"], config["data"]["name"]
    results = [
        EvalResult("text-generation", data, data, kind, round(figures[key], 4), dataset_split=subset, metric_name=label)
        for subset in ("validation", "test")
        for key, kind, label in (
            (f"{subset}/reconstruction_bleu", "bleu", "reconstruction BLEU"),
            (f"{subset}/reconstruction_perplexity", "perplexity", "reconstruction perplexity"),
        )
        if key in figures
    ]
    return ModelCardData(
        library_name="nvib-suite",
        pipeline_tag="text-generation",
        tags=["nvib", "variational-autoencoder", config["model"]["name"]],
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items() if not isinstance(value, dict))


def _table(header: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {header[0]} | {header[1]} |", "| --- | ---: |", *(f"| {key} | {value} |" for key, value in rows)]
