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
from benchmarks.prior_flow import HEADS, WIDTH, ConditionedLayer, fit, sinusoids
from models.decoding import nucleus

HIDDEN = -1e9
LAYERS = 1  # as many as the language models of these comparisons have
IGNORED = -100  # token without a loss
ROWS, COLUMNS = 256, 16  # multiples that the rows of a batch are filled up to


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
        log_frequencies = (weights / weights.sum()).log()
        log_frequencies[mixture.end] = HIDDEN
        self.register_buffer("log_frequencies", log_frequencies)
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

    def read(self, z: Tensor, lengths: Tensor) -> Tensor:
        """Compute what the next vectors of B texts are drawn by: [B, N, width], with arbitrary values at padding.

        Args:
            z: [B, N, D], vectors; the row at i depends on those before i alone.
            lengths: [B], int, vectors of each text.
        """
        before = F.pad(z / self.scale, (0, 0, 1, -1))
        hidden = self.input(before) + sinusoids(10.0 * torch.arange(z.shape[1], device=z.device), self.width)
        condition = self.condition(sinusoids(10.0 * lengths, self.width))
        for layer in self.layers:
            hidden = layer(hidden, condition)
        return F.layer_norm(hidden, (self.width,))

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of the tokens of vectors that are not the last: [..., width] to [..., V]."""
        return self.head(hidden).float() + self.log_frequencies

    def centres(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Compute the common part of the means: [..., width] and positions [...] to [..., D]."""
        return self.places[positions.clamp_max(len(self.places) - 1)] + self.shift(hidden).float()

    def forward(self, z: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mixtures of B texts.

        Args:
            z: [B, N, D], vectors; the mixture at i depends on those before i alone.
            lengths: [B], int, vectors of each text.

        Returns:
            Log weights of the tokens [B, N, V], the end token's alone at the last vector, and the common part of the
            means [B, N, D], both with arbitrary values at padding.
        """
        positions = torch.arange(z.shape[1], device=z.device).expand(z.shape[:2])
        hidden = self.read(z, lengths)
        log_weights = self.logits(hidden).log_softmax(dim=-1)
        end = torch.full_like(self.log_frequencies, HIDDEN).index_fill(0, torch.tensor(self.end), 0.0)
        at_end = positions == (lengths - 1).unsqueeze(1)
        return torch.where(at_end.unsqueeze(-1), end, log_weights), self.centres(hidden, positions)

    def bound(self, z: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Compute the mean term of a vector's own token in its density: [].

        Args:
            z: [B, N, D], draws from the posteriors.
            tokens: [B, N], int, the tokens, the last of each text the end token.
            lengths: [B], int, vectors of each text.
        """
        positions = torch.arange(z.shape[1], device=z.device).expand(z.shape[:2])
        last = (lengths - 1).unsqueeze(1)
        real, before = positions <= last, positions < last
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.read(z, lengths)
            # The last vector's token is certain. A round number of rows, since each number has its own kernels.
            rows, own = hidden[before], tokens[before]
            more = -len(rows) % ROWS
            logits = self.logits(F.pad(rows, (0, 0, 0, more)))
            log_weights = -F.cross_entropy(logits, F.pad(own, (0, more), value=IGNORED), reduction="sum")
            places = self.centres(hidden[real], positions[real])
        variance = self.residual + self.least
        squares = ((z[real] - places - self.means[tokens[real]]).square() / variance).sum()
        normalizer = 0.5 * (2 * math.pi * variance).log().sum()
        return (log_weights - 0.5 * squares) / lengths.sum() - normalizer

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
    more = -mu.shape[1] % COLUMNS
    mu, tokens = F.pad(mu, (0, 0, 0, more)), F.pad(tokens, (0, more))
    z = mu + network.least.sqrt() * torch.randn_like(mu)
    return -network.bound(z, tokens, lengths)
