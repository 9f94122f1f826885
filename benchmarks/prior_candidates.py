"""Candidates for the learned prior of an NVAE: their data, their interface, and the mixture over tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from models.latent import Latent
from models.text_model import AS_TRAINED, Noise, required
from nvib import Posterior
from pipeline.experiments.load import Experiment
from pipeline.generation.generate import require_latent, subset_batches
from pipeline.generation.latents import Source
from pipeline.runtime.errors import UserError

BLOCK = 256  # vectors whose density is computed together
PASSES = 4  # alternations between the means of tokens and those of positions
RIDGE = 1e-6  # share of the mean square that is added to the diagonal of least squares
SHRINKAGE = 1.0  # imaginary occurrences, with a mean of zero, of each token and position


@dataclass(frozen=True)
class Posteriors:
    """Posteriors of the M texts of a split, without the prior's component.

    Args:
        mu: [T, D], means of the T tokens of all texts, one text after the other.
        log_alpha: [T], log pseudo-counts.
        tokens: [T], int, token ids; the last of each text is the end token.
        lengths: [M], int, tokens of each text, the end token included.
        logvar: [D], log variances, the mean over all tokens; or [T, D], those of each token.
        base: [3, D], mean, log variance and log pseudo-count (repeated) of the prior's component.
    """

    mu: Tensor
    log_alpha: Tensor
    tokens: Tensor
    lengths: Tensor
    logvar: Tensor
    base: Tensor

    @property
    def positions(self) -> Tensor:
        """Position of each token in its text: [T], int."""
        starts = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.tokens)) - starts.repeat_interleave(self.lengths)

    def drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a vector from each component: [T, D], and its log density: [T]."""
        noise = torch.randn(self.mu.shape, generator=generator)
        normalizer = 0.5 * (math.log(2 * math.pi) + self.logvar).sum(dim=-1)
        return self.mu + (0.5 * self.logvar).exp() * noise, -0.5 * noise.square().sum(dim=1) - normalizer


def plain_rate(posteriors: Posteriors) -> float:
    """Compute the mean divergence KL(q ‖ p) of a component from the Gaussian of the plain prior, in nats a vector."""
    mean, logvar, _ = posteriors.base.double()
    own = posteriors.logvar.double()
    squares = (posteriors.mu.double() - mean).square()
    return 0.5 * float(((squares + own.exp()) / logvar.exp() - 1.0 + logvar - own).sum(dim=-1).mean())


class Candidate(Protocol):
    """Distribution of the means and log pseudo-counts of a text's components, given their number."""

    def draw(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the components of B texts.

        Args:
            lengths: [B], int, components of each text.
            generator: source of randomness, on the CPU.

        Returns:
            Means [B, N, D] and log pseudo-counts [B, N], with arbitrary values at padding.
        """
        ...


@torch.inference_mode()
def collect(
    experiment: Experiment, subset: str, batch_size: int, each: bool = False, texts: int | None = None
) -> Posteriors:
    """Encode every text of a split, or its first ones.

    Args:
        experiment: NVAE and data.
        subset: name of the split.
        batch_size: texts that are encoded together.
        each: True keeps the log variances of each token.
        texts: number of texts; None takes all.

    Raises:
        UserError: the model has no posterior with pseudo-counts, or a pseudo-count is zero.
    """
    if require_latent(experiment).posterior is None:
        raise UserError(f"{experiment.files.folder.name} has no posterior with pseudo-counts; name an NVAE")
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    logvars: list[Tensor] = []
    base, logvar, total = torch.empty(0), 0.0, 0
    for batch in subset_batches(experiment, subset, batch_size, f"encode {subset}", texts):
        posterior = required(experiment.model.encode(batch.source, batch.key_padding_mask).posterior, "posterior")
        real = ~batch.key_padding_mask
        own = (posterior.mu[:, 1:][real], posterior.log_alpha[:, 1:][real], batch.source[real], real.sum(dim=1))
        parts.append((own[0].float().cpu(), own[1].float().cpu(), own[2].cpu(), own[3].cpu()))
        spread = posterior.logvar[:, 1:][real].float().cpu()
        logvar = logvar + spread.sum(dim=0)
        if each:
            logvars.append(spread)
        total += len(own[0])
        first = posterior.mu[0, 0], posterior.logvar[0, 0], posterior.log_alpha[0, 0].expand_as(posterior.mu[0, 0])
        base = torch.stack(first).float().cpu()
    mu, log_alpha, tokens, lengths = (torch.cat(part) for part in zip(*parts, strict=True))
    if not log_alpha.isfinite().all():
        raise UserError(
            f"{experiment.files.folder.name} has pseudo-counts of zero, which no candidate models; take an NVAE with "
            "--ALPHA_ACTIVATION exp"
        )
    known = torch.cat(logvars) if each else torch.as_tensor(logvar) / total
    return Posteriors(mu, log_alpha, tokens, lengths, known, base)


def source_of(
    experiment: Experiment,
    candidate: Candidate,
    posteriors: Posteriors,
    lengths: Sequence[int],
    noise: Noise = AS_TRAINED,
) -> Source:
    """Make a source of latents from a candidate: draws of its components, then a draw from these components.

    Args:
        experiment: NVAE.
        candidate: the prior.
        posteriors: posteriors of the training set, for the log variances and the prior's component.
        lengths: tokens of each text, the end token included.
        noise: noise of the draw from the components, of a temperature above 0.
    """
    device, other = experiment.device, require_latent(experiment)

    def draw(numbers: Sequence[int], generator: torch.Generator, labels: Sequence[str] | None = None) -> Latent:
        counts = torch.tensor([lengths[number] for number in numbers])
        mu, log_alpha = candidate.draw(counts, generator)
        padding = torch.arange(mu.shape[1]) >= counts.unsqueeze(1)  # [B, N]
        texts = len(counts)
        mean, logvar, count = posteriors.base
        posterior = Posterior(
            torch.cat([mean.expand(texts, 1, -1), mu], dim=1).to(device),
            torch.cat([logvar.expand(texts, 1, -1), posteriors.logvar.expand_as(mu)], dim=1).to(device),
            torch.cat([count[0].expand(texts, 1), log_alpha], dim=1).to(device),
            torch.cat([torch.zeros(texts, 1, dtype=torch.bool), padding], dim=1).to(device),
        )
        # Only the posterior is drawn from: the other parts are those of another text.
        return experiment.model.sample_posterior(replace(other, posterior=posterior), generator, noise)

    return Source(draw, lambda number: {"drawn_length": lengths[number]}, max(lengths))


@dataclass(frozen=True)
class TokenMixture:
    """Mixture over tokens: each component chooses a token by its frequency in the training text.

    The mean of a component is the mean of its token plus that of its position plus Gaussian noise with the variance of
    the residual. Apart from the positions the components are exchangeable. The last component is the end token.
    `fit` fits the means to the posteriors; `around` maps given codes of the tokens, without a part of positions.

    Args:
        by_token: [V, D], means of the tokens.
        by_position: [P, D], means of the positions.
        variance: [D], of the residual.
        counts: [V], log pseudo-counts of the tokens.
        weights: [V], frequencies of the tokens, without the end token.
        end: id of the end token.
        noise: [D], log variance of a draw around its component's mean.
    """

    by_token: Tensor
    by_position: Tensor
    variance: Tensor
    counts: Tensor
    weights: Tensor
    end: int
    noise: Tensor

    @staticmethod
    def fit(posteriors: Posteriors, vocabulary: int, end: int) -> "TokenMixture":
        """Fit the mixture by alternating least squares.

        Args:
            posteriors: posteriors of the training set.
            vocabulary: number of tokens V.
            end: id of the end token.
        """
        mu, tokens, positions = posteriors.mu, posteriors.tokens, posteriors.positions
        number = torch.bincount(tokens, minlength=vocabulary).float()
        places = torch.bincount(positions).float()

        def means(values: Tensor, index: Tensor, count: Tensor) -> Tensor:
            sums = torch.zeros(len(count), mu.shape[1]).index_add_(0, index, values)
            return sums / (count.unsqueeze(1) + SHRINKAGE)

        by_token, by_position = torch.zeros(vocabulary, mu.shape[1]), torch.zeros(len(places), mu.shape[1])
        for _ in range(PASSES):
            by_token = means(mu - by_position[positions], tokens, number)
            by_position = means(mu - by_token[tokens], positions, places)
        return TokenMixture._with(posteriors, by_token, by_position, end)

    @staticmethod
    def around(posteriors: Posteriors, codes: Tensor, end: int) -> "TokenMixture":
        """Make the mixture around given codes, such as a pretrained model's embeddings.

        One affine map of all codes is fitted to the means by least squares, and the variance is what it leaves.

        Args:
            posteriors: posteriors of the training set.
            codes: [V, D], codes of the tokens.
            end: id of the end token.
        """
        known = torch.cat([codes, torch.ones(len(codes), 1)], dim=1).double()
        sums = torch.zeros(codes.shape, dtype=torch.double).index_add_(0, posteriors.tokens, posteriors.mu.double())
        number = torch.bincount(posteriors.tokens, minlength=len(codes)).double().unsqueeze(1)
        square = known.t() @ (number * known)
        square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.double)
        by_token = (known @ torch.linalg.solve(square, known.t() @ sums)).float()
        return TokenMixture._with(posteriors, by_token, torch.zeros(1, codes.shape[1]), end)

    @staticmethod
    def _with(posteriors: Posteriors, by_token: Tensor, by_position: Tensor, end: int) -> "TokenMixture":
        """Fit variance, pseudo-counts and frequencies to the means of tokens and positions."""
        tokens, last = posteriors.tokens, len(by_position) - 1
        number = torch.bincount(tokens, minlength=len(by_token)).float()
        residual = posteriors.mu - by_token[tokens] - by_position[posteriors.positions.clamp_max(last)]
        counts = torch.zeros(len(by_token)).index_add_(0, tokens, posteriors.log_alpha) / number.clamp_min(1.0)
        weights = number.clone()
        weights[end] = 0.0
        return TokenMixture(
            by_token, by_position, residual.square().mean(dim=0), counts, weights, end, posteriors.logvar
        )

    def rate(self, posteriors: Posteriors, generator: torch.Generator) -> float:
        """Estimate the mean divergence KL(q ‖ p) of a component from the mixture, in nats a vector, by a draw of each.

        The end token counts as certain, and a token that the training text lacks as one occurrence.

        Args:
            posteriors: posteriors of other texts than those that were fitted.
            generator: source of randomness.
        """
        z, own_density = posteriors.drawn(generator)
        variance = self.variance + self.noise.exp()
        log_weights = (self.weights.clamp_min(1.0) / self.weights.clamp_min(1.0).sum()).log()
        places = self.by_position[posteriors.positions.clamp_max(len(self.by_position) - 1)]
        ends = posteriors.lengths.cumsum(0) - 1
        scaled, means = (z - places) / variance.sqrt(), self.by_token / variance.sqrt()
        squares = 0.5 * means.square().sum(dim=1)
        scores = [
            torch.logsumexp(own @ means.t() - squares + log_weights, dim=1) - 0.5 * own.square().sum(dim=1)
            for own in scaled.split(BLOCK)
        ]
        density = torch.cat(scores)
        density[ends] = -0.5 * (scaled[ends] - means[self.end]).square().sum(dim=1)
        normalizer = 0.5 * (2 * math.pi * variance).log().sum()
        return float((own_density - density + normalizer).mean())

    def draw(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the components of B texts; see `Candidate.draw`."""
        texts, most = len(lengths), int(lengths.max())
        tokens = torch.multinomial(self.weights, texts * most, replacement=True, generator=generator)
        positions = torch.arange(most).expand(texts, most)
        tokens = torch.where(positions == lengths.unsqueeze(1) - 1, self.end, tokens.view(texts, most))
        mean = self.by_token[tokens] + self.by_position[positions.clamp_max(len(self.by_position) - 1)]
        noise = torch.randn(mean.shape, generator=generator)
        return mean + self.variance.sqrt() * noise, self.counts[tokens]
