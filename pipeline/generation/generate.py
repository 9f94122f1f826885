"""Generation of sentences from latents: reconstructions, samples and interpolations."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.declaration import is_unicode
from models.decoding import GREEDY, Decoding
from models.latent import Latent
from models.text_model import Encoding
from pipeline.data.batches import Batch, in_order, loader
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.experiments.load import Experiment
from pipeline.experiments.paths import ExperimentFiles
from pipeline.generation.latents import Source, unsupported_as_user_error
from pipeline.generation.row_grammar import RowConstraint, grammar_of
from pipeline.generation.row_samples import RowDraws
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_jsonl
from pipeline.runtime.processes import gathered, share
from pipeline.runtime.progress import bar
from pipeline.runtime.seeds import mixed

TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
AGAIN = 2  # part of the seed of a second decoding
ATTEMPT = 3  # part of the seed of a further draw


def shortest_text(experiment: Experiment) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Model inputs of an empty text: source, padding mask and target input, [1, 1] each.

    They test the abilities of a model before any work and any progress bar.
    """
    tokenizer, device = experiment.data.tokenizer, experiment.device
    source, target_input = (torch.tensor([[index]], device=device) for index in (tokenizer.sep_id, tokenizer.cls_id))
    return source, torch.zeros_like(source, dtype=torch.bool), target_input


@torch.inference_mode()
def require_latent(experiment: Experiment) -> Encoding:
    """Encode the empty text, to check that the model can encode.

    Raises:
        UserError: the model cannot encode.
    """
    with unsupported_as_user_error():
        return experiment.model.encode(*shortest_text(experiment)[:2])


def subset_batches(
    experiment: Experiment, subset: str, batch_size: int, description: str, texts: int | None = None
) -> Iterator[Batch]:
    """Yield this rank's share of the batches of a split, or of its first texts, in order, on its device, with a bar."""
    split = experiment.data.splits[subset]
    batches = share(in_order(min(len(split), texts or len(split)), batch_size))
    loaded = loader(split, batches, experiment.data.tokenizer.pad_id, experiment.device)
    for batch in bar(loaded, total=len(batches), desc=description, unit="batch"):
        yield batch.to(experiment.device)


def check_room(experiment: Experiment, before: int, limit: int) -> None:
    """Check that a pretrained decoder has positions for all tokens of texts that are to be generated.

    Args:
        experiment: model; one that is not around a pretrained model has positions for any text.
        before: positions that the decoder reads before a text; see `TextModel.positions_before`.
        limit: largest number of tokens of a text, without the end token, which the decoder does not read.

    Raises:
        UserError: the text may be longer than the positions that are left.
    """
    model = experiment.model
    if model.positions is None or before + limit <= model.positions:
        return
    used = f", {before:,} of which the prompt takes" if before else ""
    remedy = "take a lower --MAX_LENGTH" + (", or fewer vectors (--VECTORS, or a shorter sentence)" if before else "")
    raise UserError(
        f"{model.settings.pretrained} has positions for {model.positions:,} tokens{used}, and the text may have "
        f"{limit:,}; {remedy}"
    )


def decode(
    experiment: Experiment,
    latent: Latent | None,
    count: int,
    decoding: Decoding = GREEDY,
    limit: int | None = None,
    least: int = 0,
    generator: torch.Generator | None = None,
    labels: Sequence[str] | None = None,
    constraint: RowConstraint | None = None,
) -> list[tuple[str, list[int]]]:
    """Generate a sentence from each of `count` latents.

    Args:
        experiment: model and tokenizer.
        latent: of `count` texts; None for a language model.
        count: number of sentences; a language model has no latent that holds it.
        decoding: method that chooses the tokens.
        limit: largest number of tokens of a sentence, without the end token; if None, the number of tokens of the
            longest training sentence with its end token.
        least: smallest number of tokens of a sentence, without the end token.
        generator: source of randomness, on the model's device; torch's default generator if None.
        labels: one for each sentence, whose token is the first of the sentence; if None, the model chooses it.
        constraint: rules for the tokens, labels too; if None, rows of a table are rows, with columns in any order.

    Returns:
        `count` pairs of text and token ids.

    Raises:
        UserError: the pretrained model has too few positions for the latents and texts of `limit` tokens.
    """
    tokenizer = experiment.data.tokenizer
    limit = max(experiment.data.length_distribution) if limit is None else limit
    first = None
    if isinstance(tokenizer, RowTokenizer):
        if constraint is None:
            forced = [] if labels is None else [[tokenizer.labels[label]] for label in labels]
            constraint = grammar_of(tokenizer).unordered(count, forced)
        limit, least = max(limit, constraint.longest), 0
    elif labels is not None:
        first = torch.tensor([tokenizer.labels[label] for label in labels], device=experiment.device)
    check_room(experiment, experiment.model.positions_before(latent), limit)
    ids = decoding(
        experiment.model, latent, count, tokenizer.cls_id, tokenizer.sep_id, limit, least, generator, first, constraint
    )
    return list(zip(tokenizer.decode_batch(ids), ids, strict=True))


@torch.inference_mode()
def reconstruct(experiment: Experiment, subset: str, batch_size: int) -> list[dict[str, Any]]:
    """Encode and decode every sentence of a split, greedily, from the mean latent.

    Returns:
        A row for each sentence, of all ranks: `source`, `reconstruction`, `exact`, `vectors_kept`, `vectors`.

    Raises:
        UserError: the model cannot encode.
    """
    require_latent(experiment)
    batches = subset_batches(experiment, subset, batch_size, f"reconstruct {subset}")
    parts = [reconstructed(experiment, batch) for batch in batches]
    return [row for part in gathered(parts) for row in part]


@torch.inference_mode()
def reconstructed(experiment: Experiment, batch: Batch, latent: Latent | None = None) -> list[dict[str, Any]]:
    """Compute the rows of `reconstruct` for a batch on the model's device.

    Args:
        experiment: model and data.
        batch: sentences.
        latent: latents of the sentences; the mean latents if None.
    """
    encoding = experiment.model.encode(batch.source, batch.key_padding_mask)
    texts = decode(experiment, encoding.latent if latent is None else latent, len(batch.source))
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
    label: str | Sequence[str] | None = None,
    again: int | None = None,
    numbers: Sequence[int] | None = None,
    attempt: int = 0,
    rows: RowDraws | None = None,
) -> list[dict[str, Any]]:
    """Draw latents and decode them.

    Args:
        experiment: model and data.
        source: source of the latents (see `pipeline.generation.latents`).
        count: number of sentences.
        seed: seed of all draws. Each batch derives its own seed from it, so that the samples do not depend on the
            number of ranks.
        decoding: method that chooses the tokens.
        batch_size: sentences decoded together.
        min_length: smallest number of tokens of a sentence, the end token included, which is forbidden before.
        max_length: largest number of tokens of a sentence, the end token included, which is forced there. If None, a
            sentence may have, before its end token, as many tokens as the longest training sentence, or the longest
            that the source needs, has with it.
        label: label of all sentences, or of each, where the data has labels; drawn with the training set's frequencies
            if None.
        again: if given, decode a second time: only the first `again` of the same draws, with the same labels and
            limits and other randomness of the tokens.
        numbers: if given, generate only the sentences with these numbers, each with its label.
        attempt: number of earlier draws of these sentences. Each draw has seeds of its own.
        rows: grammar and conditions of a table's rows; None for other texts.

    Returns:
        A row for each sentence, of all ranks: `text`; `label`, where the data has labels; the origin of its latent
        (`drawn_length`, with the end token; `vectors`; `near`; or `mixed` and `weights`); `tokens_generated`, without
        the end token.

    Raises:
        UserError: the pretrained model has too few positions for the latents and texts of `max_length` tokens.
    """
    least = min_length - 1
    limit = max(*experiment.data.length_distribution, source.longest, least) if max_length is None else max_length - 1
    labels: list[str] | None
    if label is None:
        labels = draw_labels(experiment.data.statistics.get("labels") or {}, count, seed)
    elif isinstance(label, str):
        labels = [label] * count
    else:
        labels = list(label)
    if labels is not None:  # the label's token is not one of the sentence
        least = least + 1
        limit = max(limit + (max_length is not None), least)
    check_room(experiment, source.before, limit)  # before any work
    known = {index: name for name, index in experiment.data.tokenizer.labels.items()}
    parts = []
    chosen = range(count) if numbers is None else numbers
    batches = [[chosen[place] for place in chunk] for chunk in in_order(len(chosen), batch_size)]
    batches = [chunk for chunk in batches if again is None or chunk[0] < again]
    doing = "sample again" if again is not None else f"sample again, round {attempt}" if attempt else "sample"
    for chunk in bar(share(batches), desc=doing, unit="batch"):
        key = (seed, chunk[0], ATTEMPT, attempt) if attempt else (seed, chunk[0])
        generator = torch.Generator(experiment.device).manual_seed(mixed(*key))
        own = None if labels is None else [labels[number] for number in chunk]
        latent = source.draw(chunk, generator, own)
        if again is not None:  # the whole batch was drawn, because its draws depend on its size
            chunk = chunk[: again - chunk[0]]
            kept = torch.arange(len(chunk), device=experiment.device)
            latent = None if latent is None else latent.select(kept)
            generator.manual_seed(mixed(seed, chunk[0], AGAIN))
        own = None if own is None else own[: len(chunk)]
        constraint = None
        if rows is not None:
            latent, constraint = rows.begin(experiment, latent, chunk, own, decoding, generator)
        count = len(chunk) if constraint is None else len(constraint)
        made = decode(experiment, latent, count, decoding, limit, least, generator, own, constraint)
        origins = chunk if constraint is None else [chunk[place] for place in constraint.origins]
        parts.append(
            [
                {
                    "text": text,
                    # The rows that satisfy conditions are chosen among candidates, which have their own labels.
                    **({} if labels is None else {"label": labels[number] if rows is None else known[ids[0]]}),
                    **source.made_from(origin),
                    "tokens_generated": len(ids) - (labels is not None),
                }
                for number, origin, (text, ids) in zip(chunk, origins, made, strict=True)
            ]
        )
    return [row for part in gathered(parts) for row in part]


def checked_label(experiment: Experiment, label: str | None) -> str | None:
    """Return a requested label after a check that the data has it.

    Raises:
        UserError: the data lacks the label, or has no labels.
    """
    counts: dict[str, int] = experiment.data.statistics.get("labels") or {}
    if label is not None and not isinstance(label, str):
        raise UserError(f"a label is a text, and {label!r} is none")
    if label is None or counts.get(label):
        return label
    if not counts:
        raise UserError(f"the data has no labels, so none is {label[:80]!r}; leave --LABEL out")
    held = sorted(counts.items(), key=lambda item: -item[1])
    listed = textwrap.shorten(", ".join(f"{name!r} ({count:,})" for name, count in held), 300, placeholder=" …")
    what = "no training sentence has" if label in experiment.data.tokenizer.labels else "the data has no"
    raise UserError(f"{what} label {label[:80]!r}; name one of these (training sentences): {listed}")


def draw_labels(distribution: dict[str, int], count: int, seed: int) -> list[str] | None:
    """Draw labels of new sentences with the training set's frequencies; None if the data has no labels."""
    if not distribution:
        return None
    weights = np.array(list(distribution.values()), dtype=float)
    drawn = np.random.default_rng([seed, 1]).choice(len(weights), size=count, p=weights / weights.sum())
    return [list(distribution)[number] for number in drawn]


def read_samples(files: ExperimentFiles) -> list[dict[str, Any]]:
    """Read the samples of an experiment.

    Raises:
        UserError: the experiment has no samples, or the file is damaged.
    """
    remedy = f"generate them with sample.py --EXPERIMENT_NAME {files.folder.name}"
    rows = read_jsonl(files.samples, remedy)
    if not rows or not all(isinstance(row.get("text"), str) for row in rows):
        raise UserError(f'{files.samples} has rows without "text"; {remedy}')
    if broken := next((number for number, row in enumerate(rows, 1) if not is_unicode(row["text"])), None):
        raise UserError(f"{files.samples}: row {broken} has half a character; mend it, or {remedy}")
    return rows


def read_interpolations(path: Path) -> list[dict[str, Any]]:
    """Read the rows of `interpolations` from a file.

    Raises:
        UserError: the file is absent or damaged.
    """
    remedy = "interpolate first with --RUN_INTERPOLATIONS True"
    rows = read_jsonl(path, remedy)
    first = rows[0].get("outputs") if rows else None
    if not all(_is_interpolation(row, first) for row in rows) or not first:
        raise UserError(f"{path} does not hold the same taus for every pair; {remedy}")
    return rows


def _is_interpolation(row: dict[str, Any], first: Any) -> bool:
    """True if a row has the texts of an interpolation at the same taus as the outputs of the first row."""
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
        pairs: number of pairs, from i = 0; all M // 2 if None.
        batch_size: pairs decoded together.

    Returns:
        A row for each pair, of all ranks: `pair`, `source`, `target`, `outputs` by tau, and the `labels` of the
        outputs by tau where the data has labels.

    Raises:
        UserError: the model cannot interpolate, or the split has fewer than two sentences.
    """
    split = experiment.data.splits["validation"]
    total = len(split) // 2
    if not total:
        raise UserError(f"the validation split has {len(split)} sentence; an interpolation needs two")
    total = total if pairs is None else min(pairs, total)
    latent = require_latent(experiment).latent
    with unsupported_as_user_error():
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
    experiment: Experiment, a: Latent, b: Latent, count: int, taus: Sequence[float]
) -> list[list[tuple[str, list[int]]]]:
    """Interpolate between the latents of `count` texts each; return the texts and their token ids for each tau."""
    latents = (experiment.model.interpolate(a, b, tau) for tau in taus)
    return [decode(experiment, latent, count) for latent in latents]


def _without_end(batch: Batch) -> list[list[int]]:
    """Return the source token ids of a batch without padding and end tokens."""
    lengths = (~batch.key_padding_mask).sum(dim=-1).tolist()
    return [ids[: length - 1] for ids, length in zip(batch.source.tolist(), lengths, strict=True)]
