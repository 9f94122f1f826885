"""A rectified flow over the set of a text's components, as a candidate for the learned prior of an NVAE.

Liu, Gong & Liu 2023 (rectified flow); Chen, Zhang & Hinton 2023 (self-conditioning); Peebles & Xie 2023 (conditioning
by adaptive layer norms). The network predicts the data `x_1` from `x_t = t x_1 + (1 - t) x_0`, `x_0 ~ N(0, I)`.
"""

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.prior_candidates import Posteriors

Network = TypeVar("Network", bound=nn.Module)
Row = TypeVar("Row")

DIRECTIONS = 64  # principal directions of the means that the flow models
FITTED = 50_000  # means that the principal directions are computed from, at most
WIDTH, HEADS, LAYERS = 256, 4, 4
BATCH, LEARNING_RATE, WEIGHT_DECAY, CLIP = 64, 1e-3, 0.01, 1.0
WARM_UP, COOL_DOWN = 100, 0.3  # steps, and share of the time
AVERAGE = 0.999  # decay of the average of the weights
STEPS = 20  # Euler steps of a draw


@dataclass(frozen=True)
class Space:
    """Coordinates of a component: its mean in the principal directions, and its log pseudo-count.

    Args:
        mean: [D], mean of the means.
        directions: [k, D], principal directions.
        scale: [k], geometric mean of a direction's own standard deviation and that of all of them together.
        count: [2], mean and standard deviation of the log pseudo-counts.
    """

    mean: Tensor
    directions: Tensor
    scale: Tensor
    count: Tensor

    @staticmethod
    def fit(posteriors: Posteriors, directions: int = DIRECTIONS) -> "Space":
        """Fit the coordinates to posteriors with at most `directions` principal directions."""
        mean = posteriors.mu.mean(dim=0)
        chosen = torch.randperm(len(posteriors.mu), generator=torch.Generator().manual_seed(0))[:FITTED]
        principal = torch.linalg.svd(posteriors.mu[chosen] - mean, full_matrices=False).Vh[:directions]
        projected = (posteriors.mu - mean) @ principal.t()
        # Half-way between whitened directions and those of one scale.
        scale = (projected.std(dim=0) * projected.std()).sqrt().clamp_min(1e-6)
        count = torch.stack([posteriors.log_alpha.mean(), posteriors.log_alpha.std().clamp_min(1e-6)])
        return Space(mean, principal, scale, count)

    def encode(self, mu: Tensor, log_alpha: Tensor) -> Tensor:
        """Convert means [T, D] and log pseudo-counts [T] to coordinates [T, k + 1]."""
        projected = (mu - self.mean) @ self.directions.t() / self.scale
        return torch.cat([projected, ((log_alpha - self.count[0]) / self.count[1]).unsqueeze(-1)], dim=-1)

    def decode(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Convert coordinates [..., k + 1] to means [..., D] and log pseudo-counts [...]."""
        mu = (coordinates[..., :-1] * self.scale) @ self.directions + self.mean
        return mu, coordinates[..., -1] * self.count[1] + self.count[0]


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Embed numbers [...] as sines and cosines of geometric wavelengths: [..., width]."""
    rates = torch.exp(-math.log(1000.0) * torch.arange(width // 2, device=values.device) / (width // 2))
    angles = values.float().unsqueeze(-1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ConditionedLayer(nn.Module):
    """Transformer layer whose norms and gates depend on a condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.condition = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)

    def forward(self, x: Tensor, condition: Tensor, bias: Tensor | None = None) -> Tensor:
        """Read B texts [B, N, W] with their conditions [B, W]; without a bias, each vector those before it alone."""
        texts, count, width = x.shape
        parts = self.condition(F.silu(condition)).unsqueeze(1).chunk(6, dim=-1)
        normed = F.layer_norm(x, (width,)) * (1 + parts[0]) + parts[1]
        q, k, v = self.attention(normed).view(texts, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if bias is None else bias.to(q.dtype)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=bias is None)
        x = x + (1 + parts[2]) * self.output(read.transpose(1, 2).reshape(texts, count, width))
        normed = F.layer_norm(x, (width,)) * (1 + parts[3]) + parts[4]
        return x + (1 + parts[5]) * self.narrow(F.gelu(self.widen(normed)))


class FlowNetwork(nn.Module):
    """Transformer over a set of components, equivariant to their permutations unless it is ordered.

    Args:
        coordinates: coordinates of a component.
        ordered: True adds an embedding of each component's position.
        width: width of the layers, a multiple of twice the number of heads.
        heads: attention heads.
        layers: number of layers.
    """

    def __init__(
        self, coordinates: int, ordered: bool, width: int = WIDTH, heads: int = HEADS, layers: int = LAYERS
    ) -> None:
        super().__init__()
        self.ordered, self.width = ordered, width
        self.input, self.output = nn.Linear(2 * coordinates, width), nn.Linear(width, coordinates)
        self.condition = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(ConditionedLayer(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, time: Tensor, lengths: Tensor, earlier: Tensor) -> Tensor:
        """Predict the data of B texts.

        Args:
            x: [B, N, C], noisy components.
            time: [B], in [0, 1]; 1 is the data.
            lengths: [B], int, components of each text.
            earlier: [B, N, C], an earlier prediction; zeros if there is none.

        Returns:
            [B, N, C], with arbitrary values at padding.
        """
        texts, count, _ = x.shape
        about = torch.cat([sinusoids(1000.0 * time, self.width), sinusoids(10.0 * lengths, self.width)], dim=-1)
        condition = self.condition(about)
        positions = torch.arange(count, device=x.device)
        hidden = self.input(torch.cat([x, earlier], dim=-1))
        if self.ordered:
            hidden = hidden + sinusoids(10.0 * positions, self.width)
        padding = positions >= lengths.unsqueeze(1)
        bias = torch.zeros(texts, 1, 1, count, device=x.device).masked_fill(padding[:, None, None], -1e9)
        for layer in self.layers:
            hidden = layer(hidden, condition, bias)
        return self.output(F.layer_norm(hidden, (self.width,)))


@dataclass(frozen=True)
class Flow:
    """A trained flow.

    Args:
        network: the network with averaged weights.
        space: coordinates of the components.
        updates: training steps.
        loss: mean squared error of the last steps, an exponential average.
    """

    network: FlowNetwork
    space: Space
    updates: int
    loss: float

    @torch.inference_mode()
    def draw(self, lengths: Tensor, generator: torch.Generator, steps: int = STEPS) -> tuple[Tensor, Tensor]:
        """Draw the components of B texts by Euler steps; see `Candidate.draw`."""
        shape = (len(lengths), int(lengths.max()), self.space.directions.shape[0] + 1)
        x = torch.randn(shape, generator=generator)
        predicted = torch.zeros(shape)
        for step in range(steps):
            at = step / steps
            predicted = self.network(x, torch.full((len(lengths),), at), lengths, predicted)
            x = x + (predicted - x) / (steps * (1.0 - at))  # the last step ends at the prediction
        return self.space.decode(x)


def train(
    posteriors: Posteriors,
    ordered: bool,
    minutes: float,
    seed: int,
    network: FlowNetwork | None = None,
    most: int | None = None,
) -> Flow:
    """Train a flow on posteriors.

    Args:
        posteriors: posteriors of the training set.
        ordered: True gives the network the positions of the components.
        minutes: duration of the training; the learning rate falls to zero over its last part.
        seed: seed of weights, batches and noise. The number of steps depends on the machine's speed.
        network: network to train; one of the default sizes if None.
        most: largest number of steps, for a training that ends earlier; None for no limit.
    """
    torch.manual_seed(seed)
    space = Space.fit(posteriors)
    rows = space.encode(posteriors.mu, posteriors.log_alpha).split(posteriors.lengths.tolist())
    network = FlowNetwork(space.directions.shape[0] + 1, ordered) if network is None else network
    averaged, updates, loss = fit(network, rows, flow_loss, minutes, most)
    return Flow(averaged, space, updates, loss)


def fit(
    network: Network,
    rows: Sequence[Row],
    loss_of: Callable[[Network, list[Row]], Tensor],
    minutes: float,
    most: int | None,
) -> tuple[Network, int, float]:
    """Train a network on texts in random batches.

    Args:
        network: network in training.
        rows: what the loss needs of each text.
        loss_of: computes the loss of a batch.
        minutes: duration of the training; the learning rate falls to zero over its last part.
        most: largest number of steps; None for no limit.

    Returns:
        The network with averaged weights, the number of steps, and an exponential average of the loss.
    """
    averaged = deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    size, started, step, loss_so_far = min(BATCH, len(rows)), time.monotonic(), 0, 0.0
    order: list[int] = []
    while (done := completed(started, minutes, step, most)) < 1.0:
        if len(order) < size:
            order = torch.randperm(len(rows)).tolist()
        batch, order = [rows[number] for number in order[:size]], order[size:]
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * min(1.0, (1.0 - done) / COOL_DOWN)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(network, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        step += 1
        with torch.no_grad():
            weight = 1.0 - min(AVERAGE, (1 + step) / (10 + step))
            for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, weight)
        loss_so_far = loss.item() if step == 1 else 0.98 * loss_so_far + 0.02 * loss.item()
    return averaged, step, loss_so_far


def flow_loss(network: FlowNetwork, batch: list[Tensor]) -> Tensor:
    """Compute the mean squared error of the prediction at a random time: [].

    Args:
        network: network in training.
        batch: coordinates [n, C] of each text.
    """
    lengths = torch.tensor([len(row) for row in batch])
    data = nn.utils.rnn.pad_sequence(batch, batch_first=True)
    real = torch.arange(data.shape[1]) < lengths.unsqueeze(1)
    at = torch.sigmoid(torch.randn(len(batch)))
    share = at[:, None, None]
    x = share * data + (1.0 - share) * torch.randn_like(data)
    earlier = torch.zeros_like(data)
    with torch.autocast("cpu", torch.bfloat16):
        if torch.rand(()) < 0.5:
            with torch.no_grad():
                earlier = network(x, at, lengths, earlier).float()
        predicted = network(x, at, lengths, earlier).float()
    return (predicted - data)[real].square().mean()


def completed(started: float, minutes: float, step: int, most: int | None) -> float:
    """Return the completed share of a training, by its time or by its steps."""
    by_steps = 0.0 if most is None else step / most
    return max(by_steps, (time.monotonic() - started) / (60.0 * minutes))
