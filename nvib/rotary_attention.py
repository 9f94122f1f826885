"""Denoising attention for models with rotary positions, shared key heads or normalised keys.

Fehr & Henderson (2024), extended from keys `W_K v` to keys that depend on the position. Such a model gives the vector v
of position j the key `R_j W_K v`, with a rotation R_j. Let q be the rotated query of one head and `s0 = sqrt(d_h)`.

**Observation.** Component i of the mixture has a position, and a query observes the vector of that component as
`u_i = W_K^T R_i^T q`, so that `u_i · v = q · R_i W_K v`. Without rotations all u_i are the same u.

**Likelihood.** Denoising attention weighs a vector v of component i by the likelihood ratio against pure noise,

    N(u_i; v, s0 I) / N(u_i; 0, s0 I) = exp(u_i · v / s0 - ||v||^2 / 2 s0)

Without rotations, the denominator is the same for all components and cancels. With rotations it does not cancel, and
with it the attention over point masses of weight `log pi_i = ||z_i||^2 / 2 s0` is the attention of the model.

**Discrete mixture.** `logit_k = q · R_k W_K z_k / s0 + log pi_k - ||z_k||^2 / 2 s0`, and the output is
`sum_k a_k W_V z_k`.

**Gaussian mixture.** The integral of the likelihood ratio over component i is exact, with `s = s0 + sigma_i^2` per
dimension; it is `N(u_i; mu_i, s) / N(u_i; 0, s0)`:

    logit_i = log pi_i + u_i · (mu_i / s) + ½ sum u_i^2 sigma_i^2 / (s0 s) - ½ sum (ln(s / s0) + mu_i^2 / s)
    output  = W_V sum_i a_i (s0 mu_i / s + u_i sigma_i^2 / s)

The sums over D reduce to matrices of the head. With `rho_i = sigma_i^2 / s`, the logit is
`(q · R_i W_K (s0 mu_i / s) + ½ q^T R_i W_K diag(rho_i) W_K^T R_i^T q) / s0` plus a bias, and the output is
`sum_i a_i (W_V (s0 mu_i / s) + W_V diag(rho_i) W_K^T R_i^T q)`. Without rotations these are the formulas of
`DenoisingMultiheadAttention`.

**Component 0** has no position. A query observes it at its own position, `R_0 = R_t`, so that the attention still
depends on distances alone.

**Key biases.** `R_i (W_K v + b)` adds `q · R_i b / s0` to the logits of component i, which does not depend on v. The
integral remains exact.

**Normalised keys** (Qwen3), `R_i (g * k / rms(k))` with `k = W_K v + b`, are exact for discrete mixtures. For Gaussian
mixtures no closed form exists: the mean square of k in rms is replaced by its expectation over the component. This is
exact as sigma approaches 0, and approximate above.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nvib._tensors import float32_or_float64
from nvib.mixture import DiscreteMixture, GaussianMixture
from nvib.mixture_terms import discrete_terms, gaussian_terms

Rotation = tuple[Tensor, Tensor]  # cosines and sines of the positions, each [1 or B, N, r] with r <= d_h

# Products of query dimensions are computed for at most this many numbers at once.
MOST_NUMBERS = 2**24
# Variances below this share of s0 change no float32: the square of a query would have to exceed 1e20.
LEAST_SHARE = 1e-20


@dataclass(frozen=True)
class KeyValueProjections:
    """Projections of vectors to keys and values, without the rotation.

    Args:
        key: [G d_h, D], weight of the keys of G key heads.
        key_bias: [G d_h], or None.
        value: [G d_h, D], weight of the values.
        value_bias: [G d_h], or None.
        heads: G, number of key heads; query head h attends to the keys of head `h // (H / G)`.
        gain: [d_h], factor of the normalised keys; None if the keys are not normalised.
        epsilon: number added to the mean square of the keys.
    """

    key: Tensor
    key_bias: Tensor | None
    value: Tensor
    value_bias: Tensor | None
    heads: int
    gain: Tensor | None = None
    epsilon: float = 0.0

    @property
    def head_dim(self) -> int:
        """Width d_h of a head."""
        return self.key.shape[0] // self.heads

    def keys(self, vectors: Tensor) -> Tensor:
        """Compute the keys of vectors [B, N, D] before their rotation: [B, G, N, d_h]."""
        keys = self.split(F.linear(vectors, self.key, self.key_bias))
        if self.gain is None:
            return keys
        precise = float32_or_float64(keys)
        return (precise * self._factor(precise.square().mean(dim=-1)) * self.gain).to(keys.dtype)

    def values(self, vectors: Tensor) -> Tensor:
        """Compute the values of vectors [B, N, D]: [B, G, N, d_h]."""
        return self.split(F.linear(vectors, self.value, self.value_bias))

    def expected_factor(self, mixture: GaussianMixture) -> Tensor:
        """Compute the factor of normalised keys from their expected mean square: [B, G, K, 1]."""
        mean = self.split(F.linear(mixture.mu, self.key, self.key_bias)).square().mean(dim=-1)
        weight = torch.unflatten(self.key.square(), 0, (self.heads, -1)).mean(dim=1)  # [G, D]
        return self._factor(mean + F.linear(mixture.logvar.exp(), weight).transpose(1, 2))

    def to(self, like: Tensor) -> "KeyValueProjections":
        """Convert all tensors to the device and dtype of `like`."""
        key, key_bias, value, value_bias, gain = (
            None if part is None else part.to(like)
            for part in (self.key, self.key_bias, self.value, self.value_bias, self.gain)
        )
        assert key is not None and value is not None  # for the type checker
        return KeyValueProjections(key, key_bias, value, value_bias, self.heads, gain, self.epsilon)

    def split(self, projected: Tensor) -> Tensor:
        """Split projected vectors [B, N, G d_h] into heads: [B, G, N, d_h]."""
        return torch.unflatten(projected, -1, (self.heads, -1)).transpose(1, 2)

    def _factor(self, mean_square: Tensor) -> Tensor:
        return torch.rsqrt(mean_square + self.epsilon).unsqueeze(-1)


@dataclass(frozen=True)
class _Variances:
    """Matrices of the variances of some components, for queries of one head.

    Args:
        square: [1 or B, G, K, d_h, d_h], `R W_K diag(rho) W_K^T R^T`.
        turn: [1 or B, G, K, d_h, d_h], `W_V diag(rho) W_K^T R^T`; or [1, G, 1, d_h, d_h], without the rotation, if all
            components have the same variances.
        factor: [B, G, 1, K], factor of normalised keys in the shared `turn`; None if all are 1.
        rotation: rotation that the shared `turn` lacks, or None.
    """

    square: Tensor
    turn: Tensor
    factor: Tensor | None = None
    rotation: Rotation | None = None

    def logits(self, q: Tensor) -> Tensor:
        """Compute `½ q^T square q` for queries [B, G, T, d_h]: [B, G, T, K]."""
        if self.square.shape[2] == 1:
            return 0.5 * ((q @ self.square[:, :, 0]) * q).sum(dim=-1, keepdim=True)
        # The matrices are symmetric: of the products q_i q_(i+k), taken cyclically, those with k <= d_h / 2 suffice.
        width = q.shape[-1]
        first = torch.arange(width, device=q.device)
        step = torch.arange(width // 2 + 1, device=q.device).unsqueeze(1)
        once = torch.where((step == 0) | (2 * step == width), 0.5, 1.0).to(q)
        half = (self.square[..., first, (first + step) % width] * once).flatten(-2)  # [1 or B, G, K, …]
        cyclic = torch.cat([q, q], dim=-1).unfold(-1, width, 1)[..., : width // 2 + 1, :]
        return (q.unsqueeze(-2) * cyclic).flatten(-2) @ half.transpose(-1, -2)

    def outputs(self, q: Tensor, weights: Tensor) -> Tensor:
        """Compute `sum_i a_i turn_i q` for queries [B, G, T, d_h] and weights [B, G, T, K]: [B, G, T, d_h]."""
        if self.turn.shape[2] > 1:
            turn = torch.unflatten(weights @ self.turn.flatten(-2), -1, self.turn.shape[-2:])  # [B, G, T, d_h, d_h]
            return (turn @ q.unsqueeze(-1)).squeeze(-1)
        weights = weights if self.factor is None else weights * self.factor
        turned = weights.sum(dim=-1, keepdim=True) * q
        if self.rotation is not None:
            cos, sin = (weights @ part.unsqueeze(1).to(q) for part in self.rotation)  # of the weighted sum of rotations
            turned = torch.cat([_turn(q[..., : cos.shape[-1]], cos, -sin), turned[..., cos.shape[-1] :]], dim=-1)
        return turned @ self.turn[:, :, 0].transpose(-1, -2)


@dataclass(frozen=True)
class _Keys:
    """Keys [B, G, K, d_h], values [B, G, K, d_h] and variances (None if negligible) of some components."""

    key: Tensor
    value: Tensor
    variances: _Variances | None = None

    def logits(self, q: Tensor) -> Tensor:
        """Compute the logits [B, G, T, K] of queries [B, G, T, d_h] times s0, without the bias."""
        found = q @ self.key.transpose(-1, -2)
        return found if self.variances is None else found + self.variances.logits(q)

    def outputs(self, q: Tensor, weights: Tensor) -> Tensor:
        """Compute the weighted sum [B, G, T, d_h] of the posterior means, projected to values."""
        found = weights @ self.value
        return found if self.variances is None else found + self.variances.outputs(q, weights)


def rotate(vectors: Tensor, rotation: Rotation | None, inverse: bool = False) -> Tensor:
    """Rotate keys or queries by their positions: dimensions i and i + r/2 are a plane.

    Args:
        vectors: [B, G, N, d_h].
        rotation: cosines and sines, [1 or B, N, r]; the dimensions from r on stay unchanged. None returns `vectors`.
        inverse: if True, apply the transposed matrix.

    Returns:
        [B, G, N, d_h].
    """
    if rotation is None:
        return vectors
    cos, sin = (part.unsqueeze(1).to(vectors) for part in rotation)
    return _turn(vectors, cos, -sin if inverse else sin)


def attend(
    query: Tensor,
    mixture: DiscreteMixture | GaussianMixture,
    projections: KeyValueProjections,
    rotation: Rotation | None,
    attn_bias: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attend to a mixture, by the equations of this module (Fehr & Henderson 2024).

    All computations use float32 or float64, also under autocast.

    Args:
        query: [B, H, T, d_h], rotated queries, scaled so that the logit of a key k is `q · k / s0`.
        mixture: B mixtures with κ components per vector, those of the prior component first: K = κ (N + 1).
        projections: projections to G key heads; G divides H.
        rotation: positions of the N vectors; the queries have the last T of them. None if the model has no rotations.
        attn_bias: [B, H, T, K], added to the logits; B and H may be 1.
        dropout: probability of dropping an attention weight.

    Returns:
        The output [B, H, T, d_h], and the weights [B, H, T, K] before dropout.
    """
    with torch.autocast(query.device.type, enabled=False):
        noise, groups = math.sqrt(projections.head_dim), projections.heads
        vectors = float32_or_float64(mixture.z if isinstance(mixture, DiscreteMixture) else mixture.mu)
        projections = projections.to(vectors)
        if isinstance(mixture, DiscreteMixture):
            keys, bias = _discrete_keys(mixture, projections, rotation, noise)
        else:
            keys, bias = _gaussian_keys(mixture, projections, rotation, noise)
        bias = bias.to(vectors.dtype)[:, None, None, :]  # [B, 1, 1, K]
        bias = bias if attn_bias is None else bias + attn_bias.to(bias)
        q = query.to(vectors)
        own = None if rotation is None else (rotation[0][:, -q.shape[2] :], rotation[1][:, -q.shape[2] :])
        both = [_by_key_head(part, groups) for part in (rotate(q, own, inverse=True), q)]  # [B, G, (H/G) T, d_h]
        bias = _by_key_head(bias.expand(-1, q.shape[1], q.shape[2], -1), groups)
        rows = both[0].shape[2]
        step = max(1, MOST_NUMBERS // max(1, both[0][:, :, 0].numel() * projections.head_dim))
        chunks = [slice(start, start + step) for start in range(0, rows, step)]
        parts = [_weigh([q[:, :, c] for q in both], keys, bias[:, :, c], noise, dropout) for c in chunks]
        output, weights = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
        output, weights = (torch.unflatten(part, 2, (-1, q.shape[2])).flatten(1, 2) for part in (output, weights))
        return output, weights


def _weigh(
    queries: list[Tensor], keys: tuple[_Keys, _Keys], bias: Tensor, noise: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attend with the queries for component 0 and for the vectors: output and weights, [B, G, T, …]."""
    logits = [part.logits(q) for q, part in zip(queries, keys, strict=True)]
    weights = (torch.cat(logits, dim=-1) / noise + bias).softmax(dim=-1)
    dropped, draws = F.dropout(weights, dropout, training=dropout > 0), keys[0].key.shape[2]
    first = keys[0].outputs(queries[0], dropped[..., :draws])
    return first + keys[1].outputs(queries[1], dropped[..., draws:]), weights


def _discrete_keys(
    mixture: DiscreteMixture, projections: KeyValueProjections, rotation: Rotation | None, noise: float
) -> tuple[tuple[_Keys, _Keys], Tensor]:
    z, bias, absent = discrete_terms(mixture, noise)
    draws = 0  # of component 0, if it has a rotation of its own
    if rotation is not None:
        draws = z.shape[1] // (rotation[0].shape[1] + 1)
        rotation = (rotation[0].repeat_interleave(draws, dim=1), rotation[1].repeat_interleave(draws, dim=1))
    key, value = projections.keys(z), projections.values(z)
    prior = _Keys(key[:, :, :draws], value[:, :, :draws])
    keys = prior, _Keys(rotate(key[:, :, draws:], rotation), value[:, :, draws:])
    return keys, bias.masked_fill(absent, -math.inf)


def _gaussian_keys(
    mixture: GaussianMixture, projections: KeyValueProjections, rotation: Rotation | None, noise: float
) -> tuple[tuple[_Keys, _Keys], Tensor]:
    shift, share, bias = gaussian_terms(mixture, noise)
    dtype = float32_or_float64(mixture.mu).dtype
    shift, share, absent = shift.to(dtype), share.to(dtype), bias == -math.inf
    # Gain and factor of normalised keys scale the projection of each component.
    key = projections.split(F.linear(shift, projections.key, projections.key_bias))
    factor = None
    weight = torch.unflatten(projections.key, 0, (projections.heads, -1))  # [G, d_h, D]
    if projections.gain is not None:
        factor = projections.expected_factor(mixture)
        key, weight = key * projections.gain * factor, weight * projections.gain[:, None]
    value = projections.values(shift)
    value_weight = torch.unflatten(projections.value, 0, (projections.heads, -1))
    found: list[_Keys] = []
    for rows, turn in ((slice(0, 1), None), (slice(1, None), rotation)):
        variances, of_part = None, _simplified(share[:, rows], absent[:, rows])
        if of_part is not None:
            scale = None if factor is None else factor[:, :, rows]  # [B, G, K, 1]
            square, of_values = (_matrices(left, weight, of_part) for left in (weight, value_weight))
            variances = _variances(square, of_values, scale, turn, share[:, rows].shape[1])
        found.append(_Keys(rotate(key[:, :, rows], turn), value[:, :, rows], variances))
    return (found[0], found[1]), bias


def _variances(
    square: Tensor, turn: Tensor, factor: Tensor | None, rotation: Rotation | None, components: int
) -> _Variances:
    """Rotate and scale the matrices of `components` components, which may have one matrix in common."""
    shared = turn.shape[2] == 1
    square = _rotate_columns(_rotate_columns(square, rotation).transpose(-1, -2), rotation)
    square = square.expand(-1, -1, components, -1, -1)
    if factor is not None:
        square = square * factor.square().unsqueeze(-1)
    if shared:
        return _Variances(square, turn, None if factor is None else factor.transpose(-1, -2), rotation)
    turn = _rotate_columns(turn, rotation)
    return _Variances(square, turn if factor is None else turn * factor.unsqueeze(-1))


def _simplified(share: Tensor, absent: Tensor) -> Tensor | None:
    """Simplify variances [B, K, D]: None if they are negligible, [1, 1, D] if all components have the same.

    Components that are absent do not count. Nothing is simplified where a gradient is required, or while compiling.
    """
    if share.requires_grad or torch.compiler.is_compiling():
        return share
    present = share[~absent]
    if not len(present) or bool(present.max() < LEAST_SHARE):
        return None
    return present[:1].unsqueeze(0) if bool((present == present[0]).all()) else share


def _matrices(left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    """Compute `left diag(share) right^T` for weights [G, d_h, D] and shares [B, K, D]: [B, G, K, d_h, d_h]."""
    rows = share.flatten(0, 1)[:, None, None, :]  # [B K, 1, 1, D]
    step = max(1, MOST_NUMBERS // left.numel())
    chunks = [rows[start : start + step] for start in range(0, rows.shape[0], step)]
    found = torch.cat([(left * part) @ right.transpose(-1, -2) for part in chunks])  # [B K, G, d_h, d_h]
    return torch.unflatten(found, 0, share.shape[:2]).transpose(1, 2)


def _rotate_columns(matrices: Tensor, rotation: Rotation | None) -> Tensor:
    """Multiply matrices [B, G, K, d_h, d_h] from the right by the transposed rotations."""
    if rotation is None:
        return matrices
    flat = matrices.transpose(2, 3).flatten(1, 2)  # [B, G d_h, K, d_h]
    return torch.unflatten(rotate(flat, rotation), 1, (*matrices.shape[1:2], -1)).transpose(2, 3)


def _by_key_head(rows: Tensor, groups: int) -> Tensor:
    """Stack the query heads [B, H, T, …] of each key head: [B, G, (H/G) T, …]."""
    return torch.unflatten(rows, 1, (groups, -1)).flatten(2, 3)


def _turn(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first r dimensions of vectors [..., d_h]; cosines and sines are [..., r]."""
    turned, passed = vectors[..., : cos.shape[-1]], vectors[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-second, first], dim=-1) * sin
    if not passed.shape[-1]:
        return turned
    return torch.cat([turned, passed.expand(*turned.shape[:-1], -1)], dim=-1)
