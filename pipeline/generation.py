"""Sentences from latents: reconstructions, samples and interpolations of a trained experiment."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.decoding import Choose, generate, greedy
from models.text_model import Encoding, UnsupportedError
from pipeline.batching import Batch, in_order, loader
from pipeline.errors import UserError
from pipeline.experiments import Experiment, ExperimentFiles
from pipeline.files import read_jsonl
from pipeline.progress import bar
from pipeline.seeds import mixed
from pipeline.team import gathered, share

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class LengthRange:
    """Lengths that samples are asked for: `distribution` data or uniform, within [low, high] tokens."""

    distribution: str
    low: int | None = None
    high: int | None = None


@contextmanager
def unsupported_told() -> Iterator[None]:
    """Turn a model's word that it cannot do something into a `UserError`."""
    try:
        yield
    except UnsupportedError as error:
        raise UserError(str(error)) from None


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


def decode(experiment: Experiment, latent: Any, count: int, choose: Choose = greedy, limit: int | None = None):
    """Generate a sentence from each of `count` latents.

    Args:
        experiment: model and tokenizer.
        latent: of `count` texts.
        count: how many.
        choose: picks a token from each row of logits.
        limit: most tokens of a sentence, the end token counted; the longest training sentence's if None.

    Returns:
        `count` pairs of text and token ids.
    """
    tokenizer = experiment.data.tokenizer
    limit = limit or max(experiment.data.length_distribution)
    ids = generate(experiment.model, latent, count, tokenizer.cls_id, tokenizer.sep_id, limit, choose)
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
    count: int,
    lengths: LengthRange,
    seed: int,
    choose_with: Callable[[torch.Generator], Choose],
    batch_size: int,
) -> list[dict[str, Any]]:
    """Draw latents from the prior and decode them.

    Args:
        experiment: model and data.
        count: how many.
        lengths: which.
        seed: of all draws; each batch has a seed of its own from it, whichever process has the batch.
        choose_with: makes what picks tokens from a source of randomness.
        batch_size: sentences decoded together.

    Returns:
        A row each: `text`, `drawn_length` (n, with the end token), `tokens_generated` (without it); those of all
        processes.

    Raises:
        UserError: the model cannot sample, or no length is within the range.
    """
    drawn = draw_lengths(experiment.data.length_distribution, count, lengths, seed)
    with unsupported_told():  # before any work
        experiment.model.sample_prior(torch.tensor(drawn[:1], device=experiment.device))
    limit = max(*experiment.data.length_distribution, *drawn)
    parts = []
    for chunk in bar(share(in_order(count, batch_size)), desc="sample", unit="batch"):
        generator = torch.Generator(experiment.device).manual_seed(mixed(seed, chunk[0]))
        asked = [drawn[number] for number in chunk]
        latent = experiment.model.sample_prior(torch.tensor(asked, device=experiment.device), generator)
        made = decode(experiment, latent, len(asked), choose_with(generator), limit)
        parts.append(
            [
                {"text": text, "drawn_length": length, "tokens_generated": len(ids)}
                for length, (text, ids) in zip(asked, made, strict=True)
            ]
        )
    return [row for part in gathered(parts) for row in part]


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
        and all(isinstance(text, str) for text in (row.get("source"), row.get("target"), *outputs.values()))
    )


def draw_lengths(distribution: dict[int, int], count: int, lengths: LengthRange, seed: int) -> list[int]:
    """Lengths for new sentences, in tokens, the end token counted.

    Args:
        distribution: how many training sentences have each length.
        count: how many to draw.
        lengths: which.
        seed: of the draw.

    Raises:
        UserError: no length is within the range.
    """
    low = min(distribution) if lengths.low is None else lengths.low
    high = max(distribution) if lengths.high is None else lengths.high
    if low > high:
        raise UserError(f"--MIN_LENGTH {low} is above --MAX_LENGTH {high}; no length is left to draw")
    random = np.random.default_rng(seed)
    if lengths.distribution == "uniform":
        return random.integers(low, high, size=count, endpoint=True).tolist()
    values = np.array([length for length in sorted(distribution) if low <= length <= high])
    if not len(values):
        raise UserError(
            f"no training sentence has {low} to {high} tokens (they have {min(distribution)} to {max(distribution)}); "
            "widen --MIN_LENGTH and --MAX_LENGTH, or take --SAMPLING_DISTRIBUTION uniform"
        )
    weights = np.array([distribution[length] for length in values], dtype=float)
    return random.choice(values, size=count, p=weights / weights.sum()).tolist()


@torch.inference_mode()
def interpolations(experiment: Experiment, pairs: int | None, batch_size: int) -> list[dict[str, Any]]:
    """Interpolate between sentence i and sentence M-1-i of the validation split, at each of `TAUS`.

    Args:
        experiment: model and data.
        pairs: how many, from i = 0; all M // 2 if None.
        batch_size: pairs decoded together.

    Returns:
        A row each: `pair`, `source`, `target`, and `outputs` by tau; those of all processes.

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
    parts = []
    for chunk in bar(share(in_order(total, batch_size)), desc="interpolate", unit="batch"):
        ends = []
        for numbers in (chunk, [len(split) - 1 - number for number in chunk]):
            batch = next(iter(loader(split, [numbers], pad_id, experiment.device))).to(experiment.device)
            latent = experiment.model.encode(batch.source, batch.key_padding_mask).latent
            ends.append((decode_batch(_without_end(batch)), latent))
        (sources, a), (targets, b) = ends
        between = interpolated(experiment, a, b, len(chunk), TAUS)
        outputs = {f"{tau:g}": column for tau, column in zip(TAUS, between, strict=True)}
        rows = []
        for row, number in enumerate(chunk):
            texts = {tau: column[row] for tau, column in outputs.items()}
            rows.append({"pair": number, "source": sources[row], "target": targets[row], "outputs": texts})
        parts.append(rows)
    return [row for part in gathered(parts) for row in part]


@torch.inference_mode()
def interpolated(experiment: Experiment, a: Any, b: Any, count: int, taus: Sequence[float]) -> list[list[str]]:
    """The `count` texts that lie between two latents of as many, at each tau."""
    latents = (experiment.model.interpolate(a, b, tau) for tau in taus)
    return [[text for text, _ in decode(experiment, latent, count)] for latent in latents]


def _without_end(batch: Batch) -> list[list[int]]:
    lengths = (~batch.key_padding_mask).sum(dim=-1).tolist()
    return [ids[: length - 1] for ids, length in zip(batch.source.tolist(), lengths, strict=True)]
