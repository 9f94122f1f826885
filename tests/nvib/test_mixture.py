"""Mixtures: their checks, and interpolation between two of them."""

import pytest
import torch

import nvib


def mixture(batch: int, count: int, dim: int = 4) -> nvib.DiscreteMixture:
    log_pi = torch.randn(batch, count).log_softmax(-1)
    return nvib.DiscreteMixture(torch.randn(batch, count, dim), log_pi, torch.zeros(batch, count, dtype=torch.bool))


def test_interpolation_is_exact_at_the_ends():
    a, b = mixture(2, 3), mixture(2, 5)
    assert nvib.interpolate(a, b, 0.0) is a
    assert nvib.interpolate(a, b, 1.0) is b


def test_interpolation_mixes_the_weights_and_keeps_the_vectors():
    a, b = mixture(2, 3), mixture(2, 5)
    between = nvib.interpolate(a, b, 0.25)
    pi = between.log_pi.exp()
    torch.testing.assert_close(pi[:, :3], 0.75 * a.log_pi.exp())
    torch.testing.assert_close(pi[:, 3:], 0.25 * b.log_pi.exp())
    torch.testing.assert_close(pi.sum(-1), torch.ones(2))
    assert torch.equal(between.z, torch.cat([a.z, b.z], dim=1))


def test_interpolated_gaussian_mixtures_share_the_attention():
    a, b = (
        nvib.GaussianMixture(
            torch.randn(1, n, 4), torch.randn(1, n, 4), torch.zeros(1, n), torch.zeros(1, n, dtype=torch.bool)
        )
        for n in (2, 3)
    )
    attention = nvib.DenoisingMultiheadAttention(4, 1).eval()
    _, weights = attention(torch.randn(1, 6, 4), nvib.interpolate(a, b, 0.5), need_weights=True)
    assert weights.shape == (1, 1, 6, 5)
    assert (weights > 0).all()


@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_selecting_texts_selects_the_rows_of_every_field(rows: torch.Tensor):
    discrete = mixture(3, 5)
    gaussian = nvib.GaussianMixture(discrete.z, torch.randn(3, 5, 4), discrete.log_pi, discrete.key_padding_mask)
    for whole in (discrete, gaussian):
        selected = whole.select(rows)
        assert (len(whole), len(selected)) == (3, 2)
        assert type(selected) is type(whole)
        for name, value in vars(whole).items():
            assert torch.equal(getattr(selected, name), value[rows]), name


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_a_tau_outside_its_range_is_refused(tau: float):
    with pytest.raises(ValueError, match="tau must be in"):
        nvib.interpolate(mixture(1, 2), mixture(1, 2), tau)


def test_mixtures_of_different_types_or_widths_are_refused():
    a = mixture(1, 2)
    gaussian = nvib.GaussianMixture(a.z, a.z, a.log_pi, a.key_padding_mask)
    with pytest.raises(ValueError, match="of the same type"):
        nvib.interpolate(a, gaussian, 0.5)
    for tau in (0.0, 0.5, 1.0):
        with pytest.raises(ValueError, match=r"have the same batch size and width, got .* \[1, 2, 4\] and \[1, 2, 6\]"):
            nvib.interpolate(a, mixture(1, 2, dim=6), tau)
        with pytest.raises(ValueError, match=r"have the same batch size and width, got .* \[1, 2, 4\] and \[3, 2, 4\]"):
            nvib.interpolate(a, mixture(3, 2), tau)


def test_wrong_shapes_and_masks_are_named():
    z, log_pi = torch.randn(1, 2, 4), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"log_pi must have shape \[1, 2\], got \[1, 3\]"):
        nvib.DiscreteMixture(z, torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"key_padding_mask must be boolean, True at padding, got torch.float32"):
        nvib.DiscreteMixture(z, log_pi, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="key_padding_mask must be boolean, True at padding, got NoneType"):
        nvib.GaussianMixture(z, z, log_pi, None)
    with pytest.raises(ValueError, match="z must be a tensor, got list"):
        nvib.DiscreteMixture([[0.0]], log_pi, torch.zeros(1, 2, dtype=torch.bool))
