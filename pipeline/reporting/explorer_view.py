"""What the page of `explore.py` shows: two texts, what lies between them, and how the decoder reads the latent."""

import math
from dataclasses import dataclass, replace

import torch

from models.latent import Latent
from models.text_model import Encoding
from pipeline.generation.generate import decode, interpolated
from pipeline.generation.latents import unsupported_as_user_error
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError

LONGEST = 100  # tokens of a typed text: more would not be answered, nor seen, at once
PRIOR = "prior"  # the name of the prior's own vector


@dataclass(frozen=True)
class Vectors:
    """The latent's vectors of a text.

    Args:
        names: the token of each, or its number where they are not the tokens'.
        kept: whether the latent keeps it.
        alpha: pseudo-count of each, or None where the model has none.
        count: how many are kept, and of how many, as the model counts.
    """

    names: list[str]
    kept: list[bool]
    alpha: list[float] | None
    count: tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """How the decoder weighs the vectors at every token, on average over its layers and heads.

    Args:
        tokens: T, generated, the end token included where it was.
        vectors: K, names of those that are kept.
        sides: K, the text that each is of, 0 or 1; 2 where it is of both.
        weights: [T, K], rows sum to one.
    """

    tokens: list[str]
    vectors: list[str]
    sides: list[int]
    weights: list[list[float]]


@dataclass(frozen=True)
class View:
    """What a model makes of two texts.

    Args:
        ends: reconstructions of both.
        text: what lies between them.
        vectors: of both.
        attention: from the text between them.
    """

    ends: tuple[str, str]
    text: str
    vectors: tuple[Vectors, Vectors]
    attention: Attention


@torch.inference_mode()
def view(model: TrainedModel, a: str, b: str, tau: float, threshold: float | None = None) -> View:
    """Encode two texts, drop vectors, and decode both and what lies between.

    Args:
        model: any with a latent.
        a: a text, where tau is 0.
        b: where tau is 1.
        tau: in [0, 1].
        threshold: vectors with a smaller pseudo-count are dropped; the experiment's own if None. A model without
            pseudo-counts keeps what it keeps.

    Raises:
        UserError: the model has no latent or cannot interpolate, or a text is empty or too long.
    """
    pair = [_tokens(model, text) for text in (a, b)]
    encodings = [_above(model.encode([text]), threshold) for text in (a, b)]
    first, second = (encoding.latent for encoding in encodings)
    with unsupported_as_user_error():
        latent = model.model.interpolate(first, second, tau)
        ends = interpolated(model.experiment, first, second, 1, (0.0, 1.0))
    [(text, ids)] = decode(model.experiment, latent, 1)
    vectors = tuple(_vectors(*of_text) for of_text in zip(pair, encodings, strict=True))
    return View(tuple(made[0][0] for made in ends), text, vectors, _attention(model, ids, latent, vectors, tau))


def sampled(model: TrainedModel, count: int, length: int, seed: int) -> list[str]:
    """Texts from the prior at one length, in tokens with the end token: those of `TrainedModel.generate`.

    Raises:
        UserError: the model has no prior, or a value is out of its range.
    """
    return model.generate(count, seed, sampling_distribution="uniform", min_length=length, max_length=length)


def threshold_of(model: TrainedModel) -> float:
    """The pseudo-count below which the model drops a vector; 0 where it has none."""
    return getattr(model.model.settings, "alpha_threshold", 0.0)


def largest_alpha(model: TrainedModel, texts: list[str]) -> float:
    """The largest pseudo-count of the texts' tokens; 0 where the model has none."""
    try:
        posterior = model.encode(texts).posterior
    except UserError:
        return 0.0
    return 0.0 if posterior is None else posterior.alpha[:, 1:].max().item()


def _tokens(model: TrainedModel, text: str) -> list[str]:
    if not text.strip():
        raise UserError("type two sentences to begin")
    ids = model.tokenize([text])[0][1:]  # as the encoder reads it: no start token
    if len(ids) > LONGEST:
        raise UserError(f"a sentence may have up to {LONGEST} tokens here, one has {len(ids)}; shorten it")
    return _names(model, ids)


def _names(model: TrainedModel, ids: list[int]) -> list[str]:
    name = model.tokenizer.tokenizer.id_to_token
    return [name(index) or "[UNK]" for index in ids]


def _above(encoding: Encoding, threshold: float | None) -> Encoding:
    """An encoding at another threshold, where it has pseudo-counts."""
    if threshold is None or encoding.posterior is None:
        return encoding
    latent = encoding.posterior.mean(threshold)
    return replace(encoding, latent=latent, vectors_kept=(~latent.key_padding_mask).sum(dim=-1))


def _vectors(tokens: list[str], encoding: Encoding) -> Vectors:
    kept = (~encoding.latent.key_padding_mask[0]).tolist()
    names = tokens if encoding.posterior is None else [PRIOR, *tokens]
    if len(names) != len(kept):  # pooled, or a share of them
        names = _numbers(len(kept))
    alpha = None if encoding.posterior is None else encoding.posterior.alpha[0].tolist()
    return Vectors(names, kept, alpha, (int(encoding.vectors_kept), int(encoding.vectors)))


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def _attention(
    model: TrainedModel, ids: list[int], latent: Latent, vectors: tuple[Vectors, Vectors], tau: float
) -> Attention:
    """The weights that each token was generated with."""
    tokenizer = model.tokenizer
    ended = len(ids) < max(model.experiment.data.length_distribution)
    target = [*ids, tokenizer.sep_id] if ended else ids
    before = torch.tensor([[tokenizer.cls_id, *target[:-1]]], device=model.device)
    weights = model.model.attention_weights(before, latent)[0].mean(dim=(0, 1))  # [T, K]
    counts = [len(of_text.names) for of_text in vectors]
    whole = len(latent.key_padding_mask[0])
    if tau in (0.0, 1.0):  # one text's alone
        side = int(tau)
        names, sides = vectors[side].names, [side] * whole
    elif whole == sum(counts):
        names, sides = vectors[0].names + vectors[1].names, [0] * counts[0] + [1] * counts[1]
    else:  # each vector is of both
        names, sides = _numbers(whole), [2] * whole
    shown = (~latent.key_padding_mask[0]).nonzero().flatten()
    return Attention(
        _names(model, target),
        [names[index] for index in shown.tolist()],
        [sides[index] for index in shown.tolist()],
        weights[:, shown].float().tolist(),
    )


def steps_for(largest: float) -> tuple[float, float]:
    """A slider's end and step, both round numbers, for values of up to `largest`."""
    if largest <= 0:
        return 1.0, 0.005
    end = 10.0 ** math.ceil(math.log10(1.1 * largest))
    end = next(end * part for part in (0.2, 0.5, 1.0) if end * part >= 1.1 * largest)
    return end, end / 200
