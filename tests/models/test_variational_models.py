"""Variational models: their priors, their divergences and the vectors that they keep."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from models import MODELS
from models.decoding import generate
from models.gaussian import with_free_bits
from models.latent import Memory
from models.settings import VariationalSettings
from models.text_model import UnsupportedError
from tests.models.tiny_models import END, START, model, sentences

VARIATIONAL = [name for name, settings in MODELS.items() if issubclass(settings, VariationalSettings)]
SILENT = {"kl_dirichlet_lambda": 0.0}


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_variational_transformer_regularises_towards_its_prior(name: str):
    trained = model(name, kl_gaussian_lambda=0.5, prior_mu=0.3, prior_var=2.0)
    torch.nn.init.normal_(trained.bottleneck.logvar.weight, std=0.3)
    source, mask, target_input = sentences(7, 4)
    encoding, _ = trained(source, mask, target_input)
    own, prior = encoding.gaussians, Normal(0.3, 2.0**0.5)
    each = kl_divergence(Normal(own.mu, (0.5 * own.logvar).exp()), prior).mean(dim=-1)  # [B, K]
    expected = torch.stack([row[~padding].sum() for row, padding in zip(each, own.key_padding_mask, strict=True)])
    torch.testing.assert_close(encoding.kl_gaussian, expected)
    torch.testing.assert_close(trained.penalty(encoding, progress=1.0), 0.5 * expected.mean())


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_variational_transformer_starts_calm_and_draws_in_training_only(name: str):
    trained = model(name)
    source, mask, _ = sentences(7, 4)
    assert trained.encode(source, mask).gaussians.logvar.unique().item() < -3
    assert not torch.equal(*(trained.encode(source, mask).latent.vectors for _ in range(2)))
    trained.eval()
    assert torch.equal(*(trained.encode(source, mask).latent.vectors for _ in range(2)))


@pytest.mark.parametrize(
    ("name", "settings", "kept"),
    [
        ("VTV", {}, [7, 4, 1]),
        ("VTP", {}, [1, 1, 1]),
        ("VTS", {"stride_perc": 0.5}, [4, 2, 1]),
        ("VTS", {"stride_perc": 0.9}, [1, 1, 1]),
        ("VTS", {"stride_perc": 0.0}, [7, 4, 1]),
    ],
)
def test_new_texts_have_as_many_vectors_as_encoded_ones(name: str, settings: dict, kept: list[int]):
    trained = model(name, prior_mu=5.0, prior_var=0.01, **settings).eval()
    encoding = trained.encode(*sentences(7, 4, 1)[:2])
    assert encoding.vectors_kept.tolist() == kept
    assert encoding.vectors.tolist() == [7, 4, 1]
    drawn = trained.sample_prior(torch.tensor([7, 4, 1]), torch.Generator().manual_seed(1))
    assert torch.equal(drawn.key_padding_mask, encoding.latent.key_padding_mask)
    assert drawn.vectors.mean().item() == pytest.approx(5.0, abs=0.1)
    assert drawn.vectors.std().item() == pytest.approx(0.1, abs=0.03)
    again = trained.sample_prior(torch.tensor([7, 4, 1]), torch.Generator().manual_seed(1))
    assert torch.equal(drawn.vectors, again.vectors)
    assert len(generate(trained, drawn, 3, START, END, 10)) == 3


def test_a_stride_keeps_evenly_spaced_vectors_of_the_real_tokens():
    trained = model("VTS", stride_perc=0.7)
    hidden = torch.arange(20.0).view(1, 20, 1).expand(2, 20, 16)
    mask = torch.arange(20) >= torch.tensor([[20], [10]])
    kept, padding = trained.keep(hidden, mask)
    rows = [row[~p, 0].tolist() for row, p in zip(kept, padding, strict=True)]
    assert rows == [[1, 5, 8, 11, 15, 18], [1, 5, 8]]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_is_over_real_tokens(pooling: str):
    hidden = torch.tensor([[[-1.0], [-3.0], [100.0]], [[4.0], [1.0], [1.0]]]).expand(2, 3, 16)
    pooled, padding = model("VTP", pooling=pooling).keep(hidden, torch.tensor([[False, False, True], [False] * 3]))
    assert pooled[:, 0, 0].tolist() == ([-2.0, 2.0] if pooling == "mean" else [-1.0, 4.0])
    assert not padding.any()


@pytest.mark.parametrize("name", VARIATIONAL)
def test_importance_weights_are_the_ratio_of_the_densities(name: str):
    """Against torch.distributions and one sentence at a time."""
    trained = model(name, prior_mu=0.2, prior_var=1.5).eval()
    source, mask, target_input = sentences(7, 4)
    weights = trained.log_importance_weights(source, mask, target_input, torch.Generator().manual_seed(3))
    own = trained.encode(source, mask).gaussians
    z = own.sample(torch.Generator().manual_seed(3))
    for row in range(2):
        real, vectors = ~mask[row], ~own.key_padding_mask[row]
        latent = Memory(z[row : row + 1, vectors], own.key_padding_mask[row : row + 1, vectors])
        logits = trained.output(trained.decode(target_input[row : row + 1, real], latent))[0]
        likelihood = -F.cross_entropy(logits, source[row, real], reduction="sum")
        prior = Normal(0.2, 1.5**0.5).log_prob(latent.vectors).sum()
        posterior = Normal(own.mu[row, vectors], (0.5 * own.logvar[row, vectors]).exp()).log_prob(latent.vectors[0])
        torch.testing.assert_close(weights[row], likelihood + prior - posterior.sum(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["T", "NVIB"])
def test_a_model_without_densities_has_no_importance_weights(name: str):
    with pytest.raises(UnsupportedError, match=f"{name} has no known density"):
        model(name).log_importance_weights(*sentences(4))


def test_free_bits_apply_to_the_mean_of_a_dimension_over_the_batch():
    by_dimension = torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    assert with_free_bits(by_dimension, 1.5).item() == pytest.approx((1.5 + 2.0) / 2)


def test_dimensions_below_the_free_bits_have_no_gradient():
    for name in ("VTV", "NVIB"):
        source, mask, target_input = sentences(7, 4)
        plain = model(name, kl_gaussian_lambda=1.0, free_bits=1e-9, **({} if name == "VTV" else SILENT))
        encoding, _ = plain(source, mask, target_input)
        torch.testing.assert_close(plain.penalty(encoding, 1.0), encoding.kl_gaussian.mean(), rtol=1e-4, atol=1e-5)
        free = model(name, kl_gaussian_lambda=1.0, free_bits=1e3, **({} if name == "VTV" else SILENT))
        penalty = free.penalty(free(source, mask, target_input)[0], 1.0)
        assert penalty.item() == pytest.approx(1e3)
        penalty.backward()
        assert all(p.grad is None or not p.grad.any() for p in free.bottleneck.mu.parameters())


def test_the_nvae_samples_and_regularises():
    nvae = model("NVIB", kl_gaussian_lambda=0.5, kl_dirichlet_lambda=2.0, delta=0.3)
    source, mask, target_input = sentences(7, 4)
    encoding, _ = nvae(source, mask, target_input)
    expected = 0.5 * encoding.kl_gaussian.mean() + 2.0 * encoding.kl_dirichlet.mean()
    torch.testing.assert_close(nvae.penalty(encoding, progress=1.0), expected)
    assert encoding.vectors.tolist() == [8, 5]
    texts = generate(nvae.eval(), nvae.sample_prior(torch.tensor([4, 9])), 2, START, END, 10)
    assert len(texts) == 2


def test_annealing_weakens_the_regulariser_at_the_start():
    cyclic = model("NVIB", kl_annealing_gaussian="cyclic", kl_annealing_dirichlet="monotonic")
    encoding = cyclic.encode(*sentences(5, 5)[:2])
    assert cyclic.penalty(encoding, 0.0) == 0
    assert cyclic.penalty(encoding, 0.9) > 0
