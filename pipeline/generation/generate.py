"""Sentences from latents: reconstructions, samples and interpolations of a trained experiment."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.decoding import GREEDY, Decoding
from models.text_model import Encoding
from pipeline.data.batches import Batch, in_order, loader
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.generation.latents import Source, unsupported_told
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_jsonl
from pipeline.runtime.processes import gathered, share
from pipeline.runtime.progress import bar
from pipeline.runtime.seeds import mixed

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)


def shortest_text(experiment: Experiment) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a model takes of a text that ends at once: to learn what it can do before any work and any progress bar."""
    tokenizer, device = experiment.data.tokenizer, experiment.device
    source, target_input = (torch.tensor([[index]], device=device) for index in (tokenizer.sep_id, tokenizer.cls_id))
    return source, torch.zeros_like(source, dtype=torch.bool), target_input


@torch.inference_mode()
def require_latent(experiment: Experiment) -> Encoding:
    """The encoding of the shortest text.

    Raises:
        UserError: the model cannot encode.
    """
    with unsupported_told():
        return experiment.model.encode(*shortest_text(experiment)[:2])


def subset_batches(experiment: Experiment, subset: str, batch_size: int, description: str) -> Iterator[Batch]:
    """This process's share of the batches of a split as it stands, on its device, with a progress bar."""
    split = experiment.data.splits[subset]
    batches = share(in_order(len(split), batch_size))
    loaded = loader(split, batches, experiment.data.tokenizer.pad_id, experiment.device)
    for batch in bar(loaded, total=len(batches), desc=description, unit="batch"):
        yield batch.to(experiment.device)


def decode(
    experiment: Experiment,
    latent: Any,
    count: int,
    decoding: Decoding = GREEDY,
    limit: int | None = None,
    least: int = 0,
    generator: torch.Generator | None = None,
    labels: Sequence[str] | None = None,
) -> list[tuple[str, list[int]]]:
    """Generate a sentence from each of `count` latents.

    Args:
        experiment: model and tokenizer.
        latent: of `count` texts.
        count: how many.
        decoding: how.
        limit: most tokens of a sentence, without the end token; as many as the longest training sentence has with it
            if None.
        least: fewest tokens of a sentence, without the end token.
        generator: source of randomness, of the model's device; torch's own if None.
        labels: of the sentences, whose tokens they begin with and which count as such; None leaves it to the model.

    Returns:
        `count` pairs of text and token ids.
    """
    tokenizer = experiment.data.tokenizer
    limit = max(experiment.data.length_distribution) if limit is None else limit
    first = None
    if labels is not None:
        first = torch.tensor([tokenizer.labels[label] for label in labels], device=experiment.device)
    ids = decoding(experiment.model, latent, count, tokenizer.cls_id, tokenizer.sep_id, limit, least, generator, first)
    return list(zip(tokenizer.decode_batch(ids), ids, strict=True))


@torch.inference_mode()
def reconstruct(experiment: Experiment, subset: str, batch_size: int) -> list[dict[str, Any]]:
    """Encode and decode every sentence of a split, greedily, from the mean latent.

    Returns:
        A row each: `source`, `reconstruction`, `exact`, `vectors_kept`, `vectors`; those of all processes.

    Raises:
        UserError: the model cannot encode.
    """
    require_latent(experiment)
    batches = subset_batches(experiment, subset, batch_size, f"reconstruct {subset}")
    parts = [reconstructed(experiment, batch) for batch in batches]
    return [row for part in gathered(parts) for row in part]


@torch.inference_mode()
def reconstructed(experiment: Experiment, batch: Batch) -> list[dict[str, Any]]:
    """The rows of `reconstruct` for a batch on the model's device."""
    encoding = experiment.model.encode(batch.source, batch.key_padding_mask)
    texts = decode(experiment, encoding.latent, len(batch.source))
    sources = experiment.data.tokenizer.decode_batch(_without_end(batch))
    kept, vectors = encoding.vectors_kept.tolist(), encoding.vectors.tolist()
    return [
        {
            "source": source,
            "reconstruction": text,
            "exact": source == text,
            "vectors_kept": kept[number],
            "vectors": vectors[number],
        }
        for number, (source, (text, _)) in enumerate(zip(sources, texts, strict=True))
    ]


@torch.inference_mode()
def sample(
    experiment: Experiment,
    source: Source,
    count: int,
    seed: int,
    decoding: Decoding,
    batch_size: int,
    min_length: int = 1,
    max_length: int | None = None,
    label: str | None = None,
) -> list[dict[str, Any]]:
    """Draw latents and decode them.

    Args:
        experiment: model and data.
        source: of the latents (see `pipeline.generation.latents`).
        count: how many.
        seed: of all draws; each batch has a seed of its own from it, whichever process has the batch.
        decoding: how.
        batch_size: sentences decoded together.
        min_length: fewest tokens of a sentence, the end token counted; it is forbidden before.
        max_length: most tokens of a sentence, the end token counted, which is forced there. If None, a sentence may
            have as many before its end as the longest training sentence and what the source asks for, with theirs.
        label: of all sentences, where the data has labels; drawn as in the training set if None.

    Returns:
        A row each: `text`, its `label` where the data has them, what it was made from (`drawn_length`, with the end
        token; `vectors`; `near`; or `mixed` and `weights`), `tokens_generated` (without the end token); those of all
        processes.
    """
    least = min_length - 1
    limit = max(*experiment.data.length_distribution, source.longest, least) if max_length is None else max_length - 1
    labels = (
        draw_labels(experiment.data.statistics.get("labels") or {}, count, seed) if label is None else [label] * count
    )
    if labels is not None:  # their tokens count as such, and not as the sentence's
        least, limit = least + 1, limit + (max_length is not None)
    parts = []
    for chunk in bar(share(in_order(count, batch_size)), desc="sample", unit="batch"):
        generator = torch.Generator(experiment.device).manual_seed(mixed(seed, chunk[0]))
        latent = source.draw(chunk, generator)
        own = None if labels is None else [labels[number] for number in chunk]
        made = decode(experiment, latent, len(chunk), decoding, limit, least, generator, own)
        parts.append(
            [
                {
                    "text": text,
                    **({} if labels is None else {"label": labels[number]}),
                    **source.made_from(number),
                    "tokens_generated": len(ids) - (labels is not None),
                }
                for number, (text, ids) in zip(chunk, made, strict=True)
            ]
        )
    return [row for part in gathered(parts) for row in part]


def checked_label(experiment: Experiment, label: str | None) -> str | None:
    """A label that was asked for.

    Raises:
        UserError: the data has no such label, or none at all.
    """
    known = experiment.data.tokenizer.labels
    if label is not None and label not in known:
        there = f"it has {textwrap.shorten(', '.join(known), 200, placeholder=' …')}" if known else "it has none"
        raise UserError(f"the data has no label {label[:80]!r} ({there}); name one of them, or leave --LABEL out")
    return label


def draw_labels(distribution: dict[str, int], count: int, seed: int) -> list[str] | None:
    """Labels of new sentences, as often as training sentences have them; None where these have none."""
    if not distribution:
        return None
    weights = np.array(list(distribution.values()), dtype=float)
    drawn = np.random.default_rng([seed, 1]).choice(len(weights), size=count, p=weights / weights.sum())
    return [list(distribution)[number] for number in drawn]


def read_samples(files: ExperimentFiles) -> list[dict[str, Any]]:
    """The samples that an experiment has written.

    Raises:
        UserError: it has written none, or the file is damaged.
    """
    remedy = f"generate them with sample.py --EXPERIMENT_NAME {files.folder.name}"
    rows = read_jsonl(files.samples, remedy)
    if not rows or not all(isinstance(row.get("text"), str) for row in rows):
        raise UserError(f'{files.samples} holds no samples, each with its "text"; {remedy}')
    return rows


def read_interpolations(path: Path) -> list[dict[str, Any]]:
    """What `interpolations` returned, from the file that it was written to.

    Raises:
        UserError: there is none, or it is damaged.
    """
    remedy = "interpolate first with --RUN_INTERPOLATIONS True"
    rows = read_jsonl(path, remedy)
    first = rows[0].get("outputs") if rows else None
    if not all(_is_interpolation(row, first) for row in rows) or not first:
        raise UserError(f"{path} holds no interpolations, the same taus of every pair; {remedy}")
    return rows


def _is_interpolation(row: dict[str, Any], first: Any) -> bool:
    outputs = row.get("outputs")
    return (
        isinstance(outputs, dict)
        and outputs.keys() == first.keys()
        and isinstance(row.get("labels", {}), dict)
        and all(isinstance(text, str) for text in (row.get("source"), row.get("target"), *outputs.values()))
    )


@torch.inference_mode()
def interpolations(experiment: Experiment, pairs: int | None, batch_size: int) -> list[dict[str, Any]]:
    """Interpolate between sentence i and sentence M-1-i of the validation split, at each of `TAUS`.

    Args:
        experiment: model and data.
        pairs: how many, from i = 0; all M // 2 if None.
        batch_size: pairs decoded together.

    Returns:
        A row each: `pair`, `source`, `target`, and `outputs` by tau, with their `labels` by tau where the data has
        any; those of all processes.

    Raises:
        UserError: the model cannot interpolate, or the split has fewer than two sentences.
    """
    split = experiment.data.splits["validation"]
    total = len(split) // 2
    if not total:
        raise UserError(f"the validation split has {len(split)} sentence; an interpolation needs two")
    total = total if pairs is None else min(pairs, total)
    latent = require_latent(experiment).latent
    with unsupported_told():
        experiment.model.interpolate(latent, latent, 0.5)
    pad_id, decode_batch = experiment.data.tokenizer.pad_id, experiment.data.tokenizer.decode_batch
    labels = {number: label for label, number in experiment.data.tokenizer.labels.items()}
    parts = []
    for chunk in bar(share(in_order(total, batch_size)), desc="interpolate", unit="batch"):
        ends = []
        for numbers in (chunk, [len(split) - 1 - number for number in chunk]):
            batch = next(iter(loader(split, [numbers], pad_id, experiment.device))).to(experiment.device)
            latent = experiment.model.encode(batch.source, batch.key_padding_mask).latent
            ends.append((decode_batch(_without_end(batch)), latent))
        (sources, a), (targets, b) = ends
        between = interpolated(experiment, a, b, len(chunk), TAUS)
        columns = {f"{tau:g}": column for tau, column in zip(TAUS, between, strict=True)}
        rows = []
        for row, number in enumerate(chunk):
            own = {tau: column[row] for tau, column in columns.items()}
            rows.append({"pair": number, "source": sources[row], "target": targets[row]})
            rows[-1]["outputs"] = {tau: text for tau, (text, _) in own.items()}
            if labels:
                rows[-1]["labels"] = {tau: labels.get(ids[0]) if ids else None for tau, (_, ids) in own.items()}
        parts.append(rows)
    return [row for part in gathered(parts) for row in part]


@torch.inference_mode()
def interpolated(
    experiment: Experiment, a: Any, b: Any, count: int, taus: Sequence[float]
) -> list[list[tuple[str, list[int]]]]:
    """The `count` texts that lie between two latents of as many, at each tau, each with its token ids."""
    latents = (experiment.model.interpolate(a, b, tau) for tau in taus)
    return [decode(experiment, latent, count) for latent in latents]


def _without_end(batch: Batch) -> list[list[int]]:
    lengths = (~batch.key_padding_mask).sum(dim=-1).tolist()
    return [ids[: length - 1] for ids, length in zip(batch.source.tolist(), lengths, strict=True)]
