"""Denoising attention with rotated keys: its integral by Monte Carlo, and its limits."""

import math

import pytest
import torch
from torch import Tensor

import nvib
from nvib import rotary_attention
from nvib.rotary_attention import KeyValueProjections, Rotation, attend, rotate

DIM, WIDTH, HEADS, GROUPS, KEYS, QUERIES = 6, 4, 4, 2, 3, 2
NOISE = math.sqrt(WIDTH)


def projections(gain: bool = False, dim: int = DIM) -> KeyValueProjections:
    def weight() -> Tensor:
        return torch.randn(GROUPS * WIDTH, dim, dtype=torch.float64)

    biases = torch.randn(2, GROUPS * WIDTH, dtype=torch.float64)
    normalised = (torch.rand(WIDTH, dtype=torch.float64) + 0.5, 1e-6) if gain else (None, 0.0)
    return KeyValueProjections(weight(), biases[0], weight(), biases[1], GROUPS, *normalised)


def rotation(batch: int = 1, width: int = WIDTH) -> Rotation:
    angles = 3.0 * torch.randn(batch, KEYS, width // 2, dtype=torch.float64)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def gaussian(spread: float = 0.5, dim: int = DIM, same: bool = False) -> nvib.GaussianMixture:
    mu, logvar = torch.randn(2, 2, KEYS + 1, dim, dtype=torch.float64)
    logvar = logvar[:1, 1:2].expand_as(mu) if same else logvar
    log_pi = torch.randn(2, KEYS + 1, dtype=torch.float64).log_softmax(-1)
    padding = torch.zeros(2, KEYS + 1, dtype=torch.bool)
    padding[1, -1] = True
    return nvib.GaussianMixture(mu, logvar + 2.0 * math.log(spread), log_pi, padding)


def queries() -> Tensor:
    return torch.randn(2, HEADS, QUERIES, WIDTH, dtype=torch.float64)


def key_maps(found: KeyValueProjections, positions: Rotation, text: int, query: int, group: int) -> Tensor:
    """Map of a vector to its rotated key without the bias, and the rotation, for every component: [K, d_h, 2 d_h]."""
    weight = found.key.unflatten(0, (GROUPS, -1))[group]
    rows = torch.eye(WIDTH, dtype=torch.float64)[None, None]  # [1, 1, d_h, d_h]
    cos, sin = (part.expand(2, -1, -1)[text] for part in positions)
    order = [KEYS - QUERIES + query, *range(KEYS)]  # component 0 is at the position of the query
    turns = [
        rotate(rows, (cos[None, j : j + 1].expand(-1, WIDTH, -1), sin[None, j : j + 1].expand(-1, WIDTH, -1)))[0, 0].T
        for j in order
    ]
    return torch.stack([torch.cat([turn @ weight, turn], dim=1) for turn in turns])


def sampled(
    query: Tensor, mixture: nvib.GaussianMixture, found: KeyValueProjections, positions: Rotation, draws: int
) -> Tensor:
    """Monte Carlo estimate of the output: likelihood ratios of draws of every component."""
    output = torch.zeros_like(query)
    for text in range(2):
        noise = torch.randn(draws, KEYS + 1, mixture.mu.shape[-1], dtype=torch.float64)
        v = mixture.mu[text] + (0.5 * mixture.logvar[text]).exp() * noise  # [S, K, D]
        log_pi = mixture.log_pi[text].masked_fill(mixture.key_padding_mask[text], -torch.inf)
        for head in range(HEADS):
            group = head // (HEADS // GROUPS)
            rows = slice(group * WIDTH, (group + 1) * WIDTH)
            key = v @ found.key[rows].T + found.key_bias[rows]
            if found.gain is not None:
                key = key * torch.rsqrt(key.square().mean(-1, keepdim=True) + found.epsilon) * found.gain
            for t in range(QUERIES):
                turns = key_maps(found, positions, text, t, group)[:, :, mixture.mu.shape[-1] :]
                logit = torch.einsum("h,khj,skj->sk", query[text, head, t], turns, key) / NOISE
                logit = logit + log_pi - v.square().sum(-1) / (2.0 * NOISE)
                share = logit.flatten().softmax(0)
                output[text, head, t] = share @ (v @ found.value[rows].T + found.value_bias[rows]).flatten(0, 1)
    return output


@pytest.mark.parametrize("width", [WIDTH, WIDTH // 2])
@pytest.mark.parametrize("same", [False, True])
def test_the_output_is_the_integral_over_vectors_and_positions(same: bool, width: int):
    torch.manual_seed(0)
    # Long queries would make the variance of the estimate large.
    found, positions, mixture, q = projections(), rotation(2, width), gaussian(same=same), 0.5 * queries()
    output, _ = attend(q, mixture, found, positions)
    expected = sampled(q, mixture, found, positions, 100_000)
    torch.testing.assert_close(output, expected, rtol=0.0, atol=0.05)
    # The estimate is precise enough: without rotations, or with inverse ones, the output differs by more.
    for other in (None, (positions[0], -positions[1])):
        assert (attend(q, mixture, found, other)[0] - expected).abs().max() > 0.2


def test_the_expected_norm_of_a_normalised_key_is_near_the_integral():
    """The approximation of normalised keys: exact without variance, within 10 percent of the output's scale with it."""
    torch.manual_seed(0)
    found, positions, q = projections(gain=True), rotation(2), queries()
    for spread, tolerance in ((1e-6, 1e-4), (0.3, 0.1)):
        mixture = gaussian(spread)
        expected = sampled(q, mixture, found, positions, 50_000)
        output, _ = attend(q, mixture, found, positions)
        assert (output - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("gaussians", [True, False])
def test_without_rotations_it_is_the_attention_of_the_class(gaussians: bool):
    dim = HEADS * WIDTH
    attention = nvib.DenoisingMultiheadAttention(dim, HEADS, bias=True).double()
    torch.nn.init.normal_(attention.in_proj_bias)
    attention.out_proj.weight.data.copy_(torch.eye(dim))
    weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
    rows = slice(dim, 2 * dim), slice(2 * dim, 3 * dim)
    parts = (part[row] for row in rows for part in (weight, bias))
    found = KeyValueProjections(*parts, heads=HEADS)
    mixture = gaussian(dim=dim)
    if not gaussians:
        mixture = nvib.DiscreteMixture(mixture.mu, mixture.log_pi, mixture.key_padding_mask)
    hidden = torch.randn(2, QUERIES, dim, dtype=torch.float64)
    q = torch.nn.functional.linear(hidden, weight[:dim], bias[:dim]).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    attn_bias = torch.randn(2, 1, QUERIES, KEYS + 1, dtype=torch.float64)
    output, weights = attend(q, mixture, found, None, attn_bias)
    expected, expected_weights = attention(hidden, mixture, True, attn_bias=attn_bias)
    torch.testing.assert_close(output.transpose(1, 2).flatten(-2), expected)
    torch.testing.assert_close(weights, expected_weights)


@pytest.mark.parametrize("gain", [False, True])
def test_a_gaussian_mixture_without_variance_is_the_discrete_mixture(gain: bool):
    found, positions, mixture, q = projections(gain), rotation(), gaussian(1e-9), queries()
    points = nvib.DiscreteMixture(mixture.mu, mixture.log_pi, mixture.key_padding_mask)
    for got, expected in zip(attend(q, mixture, found, positions), attend(q, points, found, positions), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("gain", [False, True])
def test_point_masses_of_matching_weight_are_the_attention_of_the_model(gain: bool):
    found, positions, q = projections(gain), rotation(2), queries()
    z = torch.randn(2, KEYS + 1, DIM, dtype=torch.float64)
    log_pi = z.square().sum(-1) / (2.0 * NOISE)
    log_pi[:, 0] = -torch.inf
    output, _ = attend(q, nvib.DiscreteMixture(z, log_pi, torch.zeros(2, KEYS + 1, dtype=torch.bool)), found, positions)
    key, value = rotate(found.keys(z[:, 1:]), positions), found.values(z[:, 1:])
    key, value = (part.repeat_interleave(HEADS // GROUPS, dim=1) for part in (key, value))
    torch.testing.assert_close(output, torch.nn.functional.scaled_dot_product_attention(q, key, value))


def test_only_distances_matter():
    """A shift of all positions rotates queries and keys alike and changes nothing, component 0 included."""
    found, mixture, q = projections(), gaussian(), queries()
    (cos, sin), angle = rotation(), torch.tensor([0.7, 2.0, 0.7, 2.0], dtype=torch.float64)
    turn = angle.cos().expand(1, QUERIES, -1), angle.sin().expand(1, QUERIES, -1)
    shifted = cos * angle.cos() - sin * angle.sin(), sin * angle.cos() + cos * angle.sin()
    expected = attend(q, mixture, found, (cos, sin))[0]
    torch.testing.assert_close(attend(rotate(q, turn), mixture, found, shifted)[0], expected)
    assert (attend(q, mixture, found, shifted)[0] - expected).abs().max() > 0.01


def test_the_inverse_rotation_undoes_the_rotation():
    positions, keys = rotation(2, WIDTH // 2), torch.randn(2, GROUPS, KEYS, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(rotate(rotate(keys, positions), positions, inverse=True), keys)
    assert rotate(keys, positions)[..., WIDTH // 2 :].equal(keys[..., WIDTH // 2 :])


def test_the_factor_of_normalised_keys_scales_the_projection(monkeypatch: pytest.MonkeyPatch):
    found, positions, mixture, q = projections(gain=True), rotation(2), gaussian(), queries()
    monkeypatch.setattr(KeyValueProjections, "expected_factor", lambda *_: torch.full((2, 1, KEYS + 1, 1), 0.4))
    scale = 0.4 * found.gain.repeat(GROUPS)
    scaled = KeyValueProjections(
        scale[:, None] * found.key, scale * found.key_bias, found.value, found.value_bias, GROUPS
    )
    torch.testing.assert_close(attend(q, mixture, found, positions), attend(q, mixture, scaled, positions))


def test_shared_variances_and_chunks_change_no_output(monkeypatch: pytest.MonkeyPatch):
    found, positions, mixture, q = projections(gain=True), rotation(), gaussian(same=True), queries()
    expected = attend(q, mixture, found, positions)[0]
    logvar = mixture.logvar.clone().requires_grad_()
    trained = nvib.GaussianMixture(mixture.mu, logvar, mixture.log_pi, mixture.key_padding_mask)
    torch.testing.assert_close(attend(q, trained, found, positions)[0], expected)
    monkeypatch.setattr(rotary_attention, "MOST_NUMBERS", 1)
    torch.testing.assert_close(attend(q, trained, found, positions)[0], expected)


def test_gradients_are_those_of_finite_differences():
    """At equal variances too, where the matrices are computed once without gradients, and per component with them."""
    found, positions, mixture, q = projections(gain=True), rotation(), gaussian(same=True), queries()

    def output(mu: Tensor, logvar: Tensor, log_pi: Tensor, q: Tensor) -> Tensor:
        return attend(q, nvib.GaussianMixture(mu, logvar, log_pi, mixture.key_padding_mask), found, positions)[0].sum(2)

    parts = (mixture.mu, mixture.logvar.clone(), mixture.log_pi, q)
    assert torch.autograd.gradcheck(output, [part.requires_grad_() for part in parts], fast_mode=True)


def test_dropout_drops_weights_of_vectors():
    found, positions, mixture, q = projections(), rotation(), gaussian(), queries()
    output, weights = attend(q, mixture, found, positions, dropout=0.5)
    expected, expected_weights = attend(q, mixture, found, positions)
    torch.testing.assert_close(weights, expected_weights)
    assert (output - expected).abs().max() > 0.01
