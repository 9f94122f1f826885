"""The model card of a shared model: its page on the Hugging Face hub, made from configuration and figures."""

from typing import Any

from models import MODELS
from pipeline.experiments.metrics import FIGURES
from pipeline.experiments.shown_figures import HEADLINE

PAPER = "https://arxiv.org/abs/2207.13529"


def model_card(config: dict[str, Any], name: str) -> str:
    """Write a model card in Markdown, with the hub's metadata in front.

    Args:
        config: `config.json` of a shared model.
        name: name of the model.
    """
    model, data, figures = config["model"], config["data"], config["figures"]
    kind, rows = MODELS[model["name"]], (data.get("settings") or {}).get("tokenizer") == "table"
    texts = "the rows of a table, written as texts" if rows else "sentences"
    way = ": text in, a set of vectors in the middle, text out" if kind.sees_target else ""
    lengths = {int(length): count for length, count in config["length_distribution"].items()}
    headline = [FIGURES[key] for key in HEADLINE if key in figures]
    shown = [(figure.console_label, format(figures[figure.key], figure.metric.form)) for figure in headline]
    prepared = _listed(data.get("settings") or {})
    lines = [
        f"# {name}",
        "",
        f"A {kind.summary} for {texts}, trained with the NVIB suite{way}.",
        f"The method is described in [Henderson & Fehr, ICLR 2023]({PAPER}).",
        "",
        "## Use",
        "",
        "    from pipeline import from_pretrained                     # in a checkout of the NVIB suite",
        f'    model = from_pretrained("{name}")                        # this folder, or its name on the hub',
        "    model.generate(10, seed=1)",
        *(
            ['    model.generate(10, prior="learned", prior_top_p=0.95)    # its learned prior']
            if "prior" in config
            else []
        ),
        *(_of_latents(rows) if kind.sees_target else []),
        "",
        *(
            [
                "Identifiers, e-mail addresses and telephone numbers are made anew in their form. This folder holds "
                "none of the data's, so that one may equal one of theirs by chance.",
                "",
            ]
            if rows
            else []
        ),
        "The weights are in the safetensors format: loading them runs no code and unpickles nothing.",
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
        f"The model knows the language of `{data['name']}` and the words of its tokenizer. Its training data has no "
        f"sentence of more than {max(lengths)} tokens. It is trained to reconstruct sentences, not to answer or to "
        "inform: generated text is not a statement of fact and may repeat the training data. "
        "The rights to the data remain with its authors.",
    ]
    return f"---\n{_metadata(config, name)}\n---\n" + "\n".join(lines) + "\n"


def _of_latents(rows: bool) -> list[str]:
    """Lines of code that encode texts, which are rows of the table where the model knows no others."""
    if rows:
        return [
            "    a, b = model.generate(2, seed=1)",
            "    model.reconstruct([a])",
            "    model.interpolate(a, b, steps=5)",
        ]
    return [
        '    model.reconstruct(["the old king left the town."])',
        '    model.interpolate("the old king left the town.", "a cat saw the river.", steps=5)',
    ]


def _metadata(config: dict[str, Any], name: str) -> str:
    """Format the hub's metadata in YAML: library, tags and evaluation results."""
    # Imported here: heavy, and only a shared model has a card.
    from huggingface_hub import EvalResult, ModelCardData

    figures, data = config["figures"], config["data"]["name"]
    evaluated = (
        (FIGURES[f"{split}/reconstruction_{kind}"], split, kind)
        for split in ("validation", "test")
        for kind in ("bleu", "perplexity")  # the hub's names of these metrics
    )
    results = [
        EvalResult(
            "text-generation",
            data,
            data,
            kind,
            round(figures[figure.key], 4),
            dataset_split=split,
            metric_name=figure.label,
        )
        for figure, split, kind in evaluated
        if figure.key in figures
    ]
    metadata = ModelCardData(
        library_name="nvib-suite",
        pipeline_tag="text-generation",
        tags=["nvib", "variational-autoencoder", config["model"]["name"]],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return metadata.to_yaml()


def _listed(values: dict[str, Any]) -> str:
    """Format settings as one line, without nested ones."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items() if not isinstance(value, dict))


def _table(header: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    """Format a table of two columns in Markdown, a string for each line."""
    return [f"| {header[0]} | {header[1]} |", "| --- | ---: |", *(f"| {key} | {value} |" for key, value in rows)]
