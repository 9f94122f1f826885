"""Data of the page of `explore.py`: two texts, the text between them, and the decoder's attention to the latent."""

import math
from dataclasses import dataclass, replace

import torch

from models.autoencoder import TextAutoencoder
from models.latent import Latent
from models.text_model import Encoding
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.generation.generate import decode, interpolated
from pipeline.generation.latents import unsupported_as_user_error
from pipeline.generation.trained_model import TrainedModel
from pipeline.runtime.errors import UserError

LONGEST = 100  # largest number of tokens of a typed text, so that the page answers at once
PRIOR = "prior"  # name of the prior's vector


@dataclass(frozen=True)
class Vectors:
    """Vectors of a text's latent.

    Args:
        names: token of each vector, or its number if the vectors are not those of the tokens.
        kept: True for each vector that the latent keeps.
        alpha: pseudo-count of each vector, or None if the model has none.
        count: number of vectors kept and number of vectors, as the model counts them.
    """

    names: list[str]
    kept: list[bool]
    alpha: list[float] | None
    count: tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """Attention weights of the decoder, averaged over layers and heads.

    Args:
        tokens: [T], generated tokens; the end token is included if it was generated.
        vectors: [K], names of the vectors kept.
        sides: [K], text of each vector: 0 or 1, or 2 if it belongs to both.
        weights: [T, K], rows sum to one.
    """

    tokens: list[str]
    vectors: list[str]
    sides: list[int]
    weights: list[list[float]]


@dataclass(frozen=True)
class View:
    """A model's view of two texts.

    Args:
        ends: reconstructions of both texts.
        text: text generated between them.
        vectors: vectors of both texts.
        attention: attention of the text between them.
    """

    ends: tuple[str, str]
    text: str
    vectors: tuple[Vectors, Vectors]
    attention: Attention


@torch.inference_mode()
def view(model: TrainedModel, a: str, b: str, tau: float, threshold: float | None = None) -> View:
    """Encode two texts, drop vectors, and decode both and the latent between them.

    Args:
        model: a model with a latent.
        a: text at tau 0.
        b: text at tau 1.
        tau: position between the texts, in [0, 1].
        threshold: pseudo-count below which a vector is dropped; the model's own threshold if None. It has no effect on
            a model without pseudo-counts.

    Raises:
        UserError: the model has no latent or cannot interpolate, or a text is empty or too long.
    """
    tokens_a, tokens_b = (_tokens(model, text) for text in (a, b))
    encoding_a, encoding_b = (_encoded(model, text, threshold) for text in (a, b))
    first, second = encoding_a.latent, encoding_b.latent
    with unsupported_as_user_error():
        latent = model.model.interpolate(first, second, tau)
        ends = interpolated(model.experiment, first, second, 1, (0.0, 1.0))
    [(text, ids)] = decode(model.experiment, latent, 1)
    vectors = _vectors(tokens_a, encoding_a), _vectors(tokens_b, encoding_b)
    [(end_a, _)], [(end_b, _)] = ends
    return View((end_a, end_b), text, vectors, _attention(model, ids, latent, vectors, tau))


def sampled(model: TrainedModel, count: int, length: int, seed: int) -> list[str]:
    """Generate texts from the prior at one length, as `TrainedModel.generate` does.

    Args:
        model: a model with a prior.
        count: number of texts.
        length: length in tokens, end token included, at which the prior is sampled; rows of a table have none.
        seed: seed of the samples.

    Raises:
        UserError: the model has no prior, or a value is out of its range.
    """
    if isinstance(model.tokenizer, RowTokenizer):
        return model.generate(count, seed)
    return model.generate(count, seed, sampling_distribution="uniform", min_length=length, max_length=length)


def threshold_of(model: TrainedModel) -> float:
    """Pseudo-count below which the model drops a vector; 0 if it drops none."""
    return getattr(model.model.settings, "alpha_threshold", 0.0)


def largest_alpha(model: TrainedModel, texts: list[str]) -> float:
    """Largest pseudo-count of the texts' tokens; 0 if the model has none."""
    try:
        posterior = model.encode(texts).posterior
    except UserError:
        return 0.0
    return 0.0 if posterior is None else posterior.alpha[:, 1:].max().item()


def _tokens(model: TrainedModel, text: str) -> list[str]:
    """Names of the tokens of a text as the encoder reads it.

    Raises:
        UserError: the text is empty or too long.
    """
    if not text.strip():
        raise UserError("type two sentences to begin")
    ids = model.tokenize([text])[0][1:]  # without the start token
    if len(ids) > LONGEST:
        raise UserError(f"a sentence may have up to {LONGEST} tokens here, one has {len(ids)}; shorten it")
    return _names(model, ids)


def _names(model: TrainedModel, ids: list[int]) -> list[str]:
    """Names of token ids in the vocabulary."""
    return [model.tokenizer.name(index) for index in ids]


def _encoded(model: TrainedModel, text: str, threshold: float | None) -> Encoding:
    """Encode a text, with another threshold if the model has pseudo-counts, to the latent of the model's reading."""
    encoding, autoencoder = model.encode([text]), model.model
    if threshold is None or encoding.posterior is None or not isinstance(autoencoder, TextAutoencoder):
        return encoding
    latent = encoding.posterior.mean(threshold)
    kept = replace(encoding, latent=latent, vectors_kept=(~latent.key_padding_mask).sum(dim=-1))
    return autoencoder.read(kept, torch.tensor([model.tokenize([text])[0][1:]], device=model.device))


def _vectors(tokens: list[str], encoding: Encoding) -> Vectors:
    """Vectors of an encoded text, named by its tokens if there is one for each."""
    kept = (~encoding.latent.key_padding_mask[0]).tolist()
    names = tokens if encoding.posterior is None else [PRIOR, *tokens]
    if encoding.posterior is not None:
        kept = kept[:: len(kept) // len(names)]  # draws may have several vectors of a component
    if len(names) != len(kept):  # pooled to one vector, or to a share of them
        names = _numbers(len(kept))
    alpha = None if encoding.posterior is None else encoding.posterior.alpha[0].tolist()
    return Vectors(names, kept, alpha, (int(encoding.vectors_kept), int(encoding.vectors)))


def _numbers(count: int) -> list[str]:
    """Names of vectors that belong to no token: 1, 2, …"""
    return [str(number) for number in range(1, count + 1)]


def _attention(
    model: TrainedModel, ids: list[int], latent: Latent, vectors: tuple[Vectors, Vectors], tau: float
) -> Attention:
    """Attention weights at each token when it was generated."""
    tokenizer = model.tokenizer
    ended = len(ids) < max(model.experiment.data.length_distribution)
    target = [*ids, tokenizer.sep_id] if ended else ids
    before = torch.tensor([[tokenizer.cls_id, *target[:-1]]], device=model.device)
    weights = model.model.attention_weights(before, latent)[0].mean(dim=(0, 1))  # [T, K]
    counts = [len(of_text.names) for of_text in vectors]
    mask = latent.key_padding_mask[0]
    copies = max(1, len(mask) // (counts[int(tau)] if tau in (0.0, 1.0) else sum(counts)))  # draws of a component
    weights, mask = weights.unflatten(-1, (-1, copies)).sum(dim=-1), mask[::copies]
    whole = len(mask)
    if tau in (0.0, 1.0):  # the latent of one text
        side = int(tau)
        names, sides = vectors[side].names, [side] * whole
    elif whole == sum(counts):
        names, sides = vectors[0].names + vectors[1].names, [0] * counts[0] + [1] * counts[1]
    else:  # each vector belongs to both
        names, sides = _numbers(whole), [2] * whole
    shown = (~mask).nonzero().flatten()
    return Attention(
        _names(model, target),
        [names[index] for index in shown.tolist()],
        [sides[index] for index in shown.tolist()],
        weights[:, shown].float().tolist(),
    )


def steps_for(largest: float) -> tuple[float, float]:
    """End and step of a slider for values up to `largest`, both round numbers."""
    if largest <= 0:
        return 1.0, 0.005
    end = 10.0 ** math.ceil(math.log10(1.1 * largest))
    end = next(end * part for part in (0.2, 0.5, 1.0) if end * part >= 1.1 * largest)
    return end, end / 200
