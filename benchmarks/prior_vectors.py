"""An autoregressive prior over the vectors of a text in reading order, as a candidate for the learned prior of an NVAE.

Each vector is drawn given those before it and the number of them all: `p(z | n) = Π_i Σ_v π_v(z_<i) N(z_i; m_v + p_i +
W h_i, ν²)`, a mixture over the tokens' means m_v of `TokenMixture`, whose weights and common shift a causal Transformer
reads from the vectors. Training takes the term of each vector's own token, a bound that is nearly exact where a vector
is rarely mistaken for another token's; the rate sums all terms.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.prior_candidates import Posteriors, TokenMixture
from benchmarks.prior_flow import HEADS, LAYERS, WIDTH, ConditionedLayer, fit, sinusoids
from models.decoding import nucleus

HIDDEN = -1e9


class VectorNetwork(nn.Module):
    """Causal Transformer over vectors, with the mixture that each next vector is drawn from.

    Args:
        mixture: mixture over tokens, whose means stay as they are.
        width: width of the layers, a multiple of twice the number of heads.
        heads: attention heads.
        layers: number of layers.
    """

    means: Tensor
    places: Tensor
    log_frequencies: Tensor
    least: Tensor

    def __init__(self, mixture: TokenMixture, width: int = WIDTH, heads: int = HEADS, layers: int = LAYERS) -> None:
        super().__init__()
        self.width, self.end = width, mixture.end
        vocabulary, dim = mixture.by_token.shape
        self.register_buffer("means", mixture.by_token)
        self.register_buffer("places", mixture.by_position)
        self.register_buffer("least", mixture.noise.exp())
        weights = mixture.weights.clamp_min(1.0)
        self.register_buffer("log_frequencies", (weights / weights.sum()).log())
        self.scale = float(mixture.by_token.std())
        self.input, self.shift = nn.Linear(dim, width), nn.Linear(width, dim)
        self.head = nn.Linear(width, vocabulary)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(ConditionedLayer(width, heads) for _ in range(layers))
        self.log_residual = nn.Parameter(mixture.variance.clamp_min(1e-6).log())
        for layer in (self.shift, self.head):  # at first the mixture over tokens
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def residual(self) -> Tensor:
        """Variance of a mean around that of its token: [D]."""
        return self.log_residual.exp()

    def forward(self, z: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mixtures of B texts.

        Args:
            z: [B, N, D], vectors; the mixture at i depends on those before i alone.
            lengths: [B], int, vectors of each text.

        Returns:
            Log weights of the tokens [B, N, V], the end token's alone at the last vector, and the common part of the
            means [B, N, D], both with arbitrary values at padding.
        """
        count = z.shape[1]
        positions = torch.arange(count, device=z.device)
        before = F.pad(z / self.scale, (0, 0, 1, -1))
        hidden = self.input(before) + sinusoids(10.0 * positions, self.width)
        condition = self.condition(sinusoids(10.0 * lengths, self.width))
        later = torch.ones(count, count, dtype=torch.bool, device=z.device).triu(1)
        bias = torch.zeros(1, 1, count, count, device=z.device).masked_fill(later, HIDDEN)
        for layer in self.layers:
            hidden = layer(hidden, condition, bias)
        hidden = F.layer_norm(hidden, (self.width,))
        logits = self.head(hidden).float() + self.log_frequencies
        is_end = torch.arange(logits.shape[-1], device=z.device) == self.end
        at_end = positions == (lengths - 1).unsqueeze(1)  # [B, N]
        logits = logits.masked_fill(at_end.unsqueeze(-1) ^ is_end, HIDDEN)
        places = self.places[positions.clamp_max(len(self.places) - 1)]
        return logits.log_softmax(dim=-1), places + self.shift(hidden).float()

    def bound(self, z: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compute the term of each vector's own token in its density: [B, N], arbitrary at padding.

        Args:
            z: [B, N, D], draws from the posteriors.
            tokens: [B, N], int, the tokens.
            lengths: [B], int, vectors of each text.
        """
        with torch.autocast("cpu", torch.bfloat16):
            log_weights, places = self(z, lengths)
        variance = self.residual + self.least
        squares = ((z - places - self.means[tokens]).square() / variance).sum(dim=-1)
        normalizer = 0.5 * (2 * math.pi * variance).log().sum()
        return log_weights.gather(-1, tokens.unsqueeze(-1))[..., 0] - 0.5 * squares - normalizer

    def log_density(self, z: Tensor, lengths: Tensor) -> Tensor:
        """Compute the log density of each vector given those before it: [B, N], arbitrary at padding.

        Args:
            z: [B, N, D], draws from the posteriors.
            lengths: [B], int, vectors of each text.
        """
        log_weights, places = self(z, lengths)
        variance = self.residual + self.least
        scaled, means = (z - places) / variance.sqrt(), self.means / variance.sqrt()
        scores = scaled @ means.t() - 0.5 * means.square().sum(dim=1) + log_weights
        normalizer = 0.5 * (2 * math.pi * variance).log().sum()
        return scores.logsumexp(dim=-1) - 0.5 * scaled.square().sum(dim=-1) - normalizer


@dataclass(frozen=True)
class VectorPrior:
    """A trained prior over vectors in reading order.

    Args:
        network: the network with averaged weights.
        counts: [V], log pseudo-counts of the tokens.
        top_p: share of the probability that the tokens of the mixtures are drawn from.
        updates: training steps.
        loss: nats a vector of the last steps, an exponential average.
    """

    network: VectorNetwork
    counts: Tensor
    top_p: float
    updates: int
    loss: float

    @torch.inference_mode()
    def draw(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the components of B texts one after the other; see `Candidate.draw`.

        Each vector that later ones depend on is a draw from its component.
        """
        network, count = self.network, int(lengths.max())
        mu = torch.zeros(len(lengths), count, network.means.shape[1])
        z, log_alpha = mu.clone(), torch.zeros(mu.shape[:2])
        choose = nucleus(top_p=self.top_p, generator=generator)
        for place in range(count):
            log_weights, places = network(z[:, : place + 1], lengths)
            tokens = choose(log_weights[:, -1])
            noise, further = torch.randn(2, *mu[:, place].shape, generator=generator)
            mu[:, place] = network.means[tokens] + places[:, -1] + network.residual.sqrt() * noise
            z[:, place] = mu[:, place] + network.least.sqrt() * further
            log_alpha[:, place] = self.counts[tokens]
        return mu, log_alpha

    @torch.inference_mode()
    def rate(self, posteriors: Posteriors, generator: torch.Generator) -> float:
        """Estimate the mean divergence KL(q ‖ p) of a vector, in nats, by a draw of each text; see `TokenMixture`."""
        z, own_density = posteriors.drawn(generator)
        counts = posteriors.lengths.tolist()
        parts = zip(z.split(counts), own_density.split(counts), strict=True)
        differences = [
            own - self.network.log_density(one.unsqueeze(0), torch.tensor([len(one)]))[0] for one, own in parts
        ]
        return float(torch.cat(differences).mean())


def train(
    posteriors: Posteriors,
    mixture: TokenMixture,
    minutes: float,
    seed: int,
    top_p: float,
    network: VectorNetwork | None = None,
    most: int | None = None,
) -> VectorPrior:
    """Train the prior on draws from posteriors.

    Args:
        posteriors: posteriors of the training set.
        mixture: mixture over tokens, fitted to them.
        minutes: duration of the training; the learning rate falls to zero over its last part.
        seed: seed of weights, batches and noise. The number of steps depends on the machine's speed.
        top_p: share of the probability that the tokens of the mixtures are drawn from.
        network: network to train; one of the default sizes if None.
        most: largest number of steps; None for no limit.
    """
    torch.manual_seed(seed)
    counts = posteriors.lengths.tolist()
    rows = list(zip(posteriors.mu.split(counts), posteriors.tokens.split(counts), strict=True))
    network = VectorNetwork(mixture) if network is None else network
    averaged, updates, loss = fit(network, rows, vector_loss, minutes, most)
    return VectorPrior(averaged, mixture.counts, top_p, updates, loss)


def vector_loss(network: VectorNetwork, batch: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Compute the mean negative log density of a draw from each component, by its bound, in nats a vector: [].

    Args:
        network: network in training.
        batch: means [n, D] and tokens [n] of each text.
    """
    lengths = torch.tensor([len(tokens) for _, tokens in batch])
    mu, tokens = (nn.utils.rnn.pad_sequence(list(part), batch_first=True) for part in zip(*batch, strict=True))
    real = torch.arange(mu.shape[1]) < lengths.unsqueeze(1)
    z = mu + network.least.sqrt() * torch.randn_like(mu)
    return -network.bound(z, tokens, lengths)[real].mean()
