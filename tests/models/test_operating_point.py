"""The rate of a latent, its price, and what a decoder reads: the settings that choose an operating point."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from models import MODELS, build
from models.latent import hidden
from models.readings import MEASURES
from models.settings import VariationalSettings
from models.text_model import Prices
from nvib import DiscreteMixture, GaussianMixture
from tests.models.tiny_models import AUTOENCODERS, VOCABULARY, model, sentences

WITH_GAUSSIANS = ["NVIB", *(name for name, settings in MODELS.items() if issubclass(settings, VariationalSettings))]


def expected_rate(encoding, mu: float, var: float) -> torch.Tensor:
    """Rate of each text by torch's own divergence of normal distributions."""
    own = encoding.gaussians
    each = kl_divergence(Normal(own.mu, (0.5 * own.logvar).exp()), Normal(mu, var**0.5)).sum(dim=-1)
    return torch.stack([row[~padding].mean() for row, padding in zip(each, own.key_padding_mask, strict=True)])


@pytest.mark.parametrize("name", WITH_GAUSSIANS)
def test_the_rate_is_the_mean_divergence_of_a_text_s_own_vectors(name: str):
    trained = model(name, prior_mu=0.3, prior_var=2.0)
    torch.nn.init.normal_(trained.bottleneck.logvar.weight, std=0.3)
    source, mask, _ = sentences(7, 4, 1)
    encoding = trained.encode(source, mask)
    torch.testing.assert_close(encoding.rate, expected_rate(encoding, 0.3, 2.0))


def test_the_rate_does_not_depend_on_shares_and_the_published_divergence_does():
    trained = model("NVIB").eval()
    source, mask, _ = sentences(7, 4)
    before = trained.encode(source, mask)
    torch.nn.init.normal_(trained.bottleneck.alpha.weight, std=3.0)
    after = trained.encode(source, mask)
    assert torch.equal(before.rate, after.rate)
    assert (before.kl_gaussian - after.kl_gaussian).abs().max() > 1e-3


@pytest.mark.parametrize("free_bits", [0.0, 1e-6])
def test_the_loss_charges_shares_or_components(free_bits: float):
    settings = {"kl_gaussian_lambda": 0.5, "kl_dirichlet_lambda": 0.0, "free_bits": free_bits}
    source, mask, target_input = sentences(7, 4)
    for weighting in ("share", "component"):
        torch.manual_seed(0)
        trained = model("NVIB", kl_weighting=weighting, **settings)
        torch.nn.init.normal_(trained.bottleneck.alpha.weight, std=2.0)
        encoding, _ = trained(source, mask, target_input)
        charged = {"share": encoding.kl_gaussian.mean(), "component": encoding.rate.mean() / trained.settings.dim_h}
        torch.testing.assert_close(trained.penalty(encoding, 1.0), 0.5 * charged[weighting], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WITH_GAUSSIANS)
def test_prices_multiply_the_weights_of_the_regulariser(name: str):
    both = {"kl_dirichlet_lambda": 2.0} if name == "NVIB" else {}
    trained = model(name, kl_gaussian_lambda=0.5, **both)
    encoding, _ = trained(*sentences(7, 4))
    gaussian, dirichlet = (trained.penalty(encoding, 1.0, Prices(*prices)) for prices in ((1.0, 0.0), (0.0, 1.0)))
    torch.testing.assert_close(trained.penalty(encoding, 1.0, Prices(3.0, 5.0)), 3.0 * gaussian + 5.0 * dirichlet)
    assert gaussian > 0
    assert (dirichlet > 0) == (name == "NVIB")


@pytest.mark.parametrize("name", ["NVIB", "VTV"])
def test_a_start_from_a_transformer_gives_its_outputs_before_the_first_step(name: str):
    """The same weights, the bottleneck passing the vectors through: equal losses and equal next tokens."""
    torch.manual_seed(0)
    vanilla = model("T").eval()
    for parameter in vanilla.parameters():  # norms of the encoder's vectors that differ, as after training
        torch.nn.init.normal_(parameter, std=0.3) if parameter.dim() == 1 else None
    settings = {"bottleneck": "identity"} if name == "NVIB" else {}
    started = model(name, **settings).eval()
    missing, unexpected = started.load_state_dict(vanilla.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("bottleneck.") for key in missing)
    source, mask, target_input = sentences(9, 5, 1)
    hidden = vanilla.encode(source, mask).latent.vectors
    started.pass_through(float(hidden.detach().square().sum(dim=-1)[~mask].mean()))
    (_, loss), (_, own_loss) = (one(source, mask, target_input) for one in (vanilla, started))
    torch.testing.assert_close(own_loss.each, loss.each, rtol=1e-3, atol=2e-3)
    expected, found = (one.decode(target_input, one.encode(source, mask).latent)[~mask] for one in (vanilla, started))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
    started.bottleneck.logvar.bias.data.fill_(-40.0)  # without the noise: equal up to rounding
    found = started.decode(target_input, started.encode(source, mask).latent)[~mask]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reading", MEASURES)
def test_a_decoder_reads_the_latent_that_is_asked_for(reading: str):
    torch.manual_seed(1)
    trained = model("NVIB", reading=reading).eval()
    torch.nn.init.normal_(trained.bottleneck.alpha.weight, std=1.0)
    source, mask, _ = sentences(7, 4)
    encoding = trained.encode(source, mask)
    whole = encoding.posterior.mean(trained.settings.alpha_threshold)
    latent = encoding.latent
    assert isinstance(latent, DiscreteMixture if reading == "plug-in" else GaussianMixture)
    if reading == "integral":
        assert torch.equal(latent.log_pi, whole.log_pi)
        return
    assert latent.key_padding_mask[:, 0].all()
    assert torch.equal(latent.key_padding_mask[:, 1:], whole.key_padding_mask[:, 1:])
    kept = whole.log_pi[:, 1:].exp()
    torch.testing.assert_close(latent.log_pi[:, 1:].exp(), kept / kept.sum(dim=-1, keepdim=True))
    vectors = latent.z if isinstance(latent, DiscreteMixture) else latent.mu
    assert torch.equal(vectors, whole.mu)


@pytest.mark.parametrize("reading", MEASURES)
def test_a_text_without_vectors_of_its_own_has_the_component_of_the_prior(reading: str):
    trained = model("NVIB", reading=reading, alpha_threshold=1e6).eval()
    encoding = trained.encode(*sentences(7, 4)[:2])
    assert encoding.vectors_kept.tolist() == [1, 1]
    assert not encoding.latent.key_padding_mask[:, 0].any()
    assert torch.equal(encoding.latent.log_pi[:, 0], torch.zeros(2))


def hidden_shares(dropping: bool, **settings) -> torch.Tensor:
    """Share of its own vectors that training hides from the decoder, for each of many texts."""
    torch.manual_seed(3)
    trained = model("NVIB", **settings)
    trained.dropping = dropping
    source, mask, _ = sentences(*[20] * 400)
    latent = trained.encode(source, mask).latent
    assert not latent.key_padding_mask[:, 0].any()
    hidden = latent.key_padding_mask[:, 1:]
    assert torch.equal(hidden, latent.log_pi[:, 1:] == -math.inf)
    return hidden.float().mean(dim=1)


def test_training_hides_a_random_share_of_vectors_once_the_reconstruction_is_there():
    assert not hidden_shares(False, vector_dropout=0.8).any()
    assert not hidden_shares(True).any()
    shares = hidden_shares(True, vector_dropout=0.8, full_texts=0.5)
    assert 0.4 < (shares == 0).float().mean() < 0.6
    assert shares[shares > 0].mean() == pytest.approx(0.42, abs=0.06)
    assert shares.max() < 1.0
    assert hidden_shares(True, vector_dropout=0.8, full_texts=1.0).max() == 0


def test_hiding_vectors_draws_three_times_and_no_more():
    """Later draws of the same step, as those of the decoder's dropout, remain what they were in earlier versions."""
    source, mask, _ = sentences(9, 4)
    following = []
    for dropping in (True, False):
        trained = model("NVIB", vector_dropout=0.8)
        trained.dropping = dropping
        torch.manual_seed(4)
        trained.encode(source, mask)
        if not dropping:
            _ = torch.rand(2, 1), torch.rand(2, 1), torch.rand(2, 10)
        following.append(torch.rand(3))
    assert torch.equal(*following)


def test_training_adds_the_noise_of_a_higher_temperature_once_the_reconstruction_is_there():
    source, mask, _ = sentences(*[20] * 600)
    drawn = {}
    for temperature, dropping in ((1.0, True), (3.0, True), (3.0, False)):
        trained = model("NVIB", posterior_temperature=temperature, full_texts=0.5)
        trained.dropping = dropping
        trained.load_state_dict(model_weights(drawn.setdefault("model", trained)))
        torch.manual_seed(5)
        with torch.no_grad():
            encoding = trained.encode(source, mask)
        drawn[temperature, dropping] = encoding.latent.z
    assert torch.equal(drawn[1.0, True], drawn[3.0, False])
    added = drawn[3.0, True] - drawn[1.0, True]
    assert not added[:, 0].any(), "the prior's component stays"
    deviation = (0.5 * encoding.posterior.logvar[:, 1:]).exp()
    scale = (added[:, 1:] / deviation).square().mean(dim=(1, 2))  # T² - 1 of each text
    assert 0.43 < (scale == 0).float().mean() < 0.57
    # T is uniform in [1, 3]: the mean of T² - 1 is (27 - 1) / 6 - 1.
    assert scale[scale > 0].mean() == pytest.approx(26 / 6 - 1, rel=0.1)
    assert scale.max() < 8.8


def model_weights(built: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in built.state_dict().items()}


def replaced(**settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Where training with draws of the prior changes the vectors and the weights of many texts, some of them short."""
    source, mask, _ = sentences(*[20, 12] * 200)
    mixtures = []
    for dropping in (False, True):
        torch.manual_seed(3)
        trained = model("NVIB", kappa=2, **settings)
        trained.dropping = dropping
        torch.manual_seed(4)
        mixtures.append(trained.encode(source, mask).latent)
    own, changed = mixtures
    padding = torch.cat([torch.zeros_like(mask[:, :1]), mask], dim=1).repeat_interleave(2, dim=1)
    assert torch.equal(changed.key_padding_mask, padding)
    assert torch.equal(own.key_padding_mask, padding)
    torch.testing.assert_close(changed.log_pi.exp().sum(dim=1), torch.ones(400))
    return (own.z != changed.z).all(dim=-1) | padding, padding


def test_training_replaces_a_random_share_of_vectors_by_draws_of_the_prior():
    changed, padding = replaced(vector_dropout=0.8, full_texts=0.5, dropped_vectors="prior")
    assert not changed[:, :2].any()  # the component of the prior, drawn twice
    assert torch.equal(changed[:, 2::2], changed[:, 3::2])
    shares = (changed & ~padding)[:, 2:].float().sum(dim=1) / (~padding)[:, 2:].sum(dim=1)
    assert 0.4 < (shares == 0).float().mean() < 0.6
    assert shares[shares > 0].mean() == pytest.approx(0.42, abs=0.06)


def test_training_shows_the_decoder_whole_draws_of_the_prior():
    changed, padding = replaced(prior_texts=0.3)
    whole = changed.all(dim=1)
    assert 0.22 < whole.float().mean() < 0.38
    assert not (changed & ~padding)[~whole].any()


def test_a_draw_of_the_prior_in_training_is_what_sampling_draws():
    """A text whose vectors are all replaced has vectors and weights distributed as those of `sample_prior`."""
    trained = model("NVIB", prior_texts=0.999999, delta=0.25)
    trained.dropping = True
    torch.manual_seed(5)
    source, mask, _ = sentences(*[6] * 4000)
    seen = trained.encode(source, mask).latent
    drawn = trained.sample_prior(torch.full((4000,), 6))
    for moment in (1, 2):
        torch.testing.assert_close((seen.z**moment).mean(dim=0), (drawn.z**moment).mean(dim=0), atol=0.12, rtol=0)
        weights = [(mixture.log_pi.exp() ** moment).mean(dim=0) for mixture in (seen, drawn)]
        torch.testing.assert_close(*weights, atol=0.02, rtol=0)


def test_evaluation_hides_no_vector():
    trained = model("NVIB", vector_dropout=0.9, full_texts=0.0).eval()
    trained.dropping = True
    source, mask, _ = sentences(9, 4)
    assert torch.equal(trained.encode(source, mask).latent.key_padding_mask[:, 1:], mask)


def test_the_identity_bottleneck_also_trains_from_scratch():
    settings = MODELS["NVIB"](vocabulary_size=VOCABULARY, dim_h=16, num_heads=2, bottleneck="identity")
    trained = build(settings)
    encoding, loss = trained(*sentences(7, 4))
    (loss.mean + trained.penalty(encoding, 1.0)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in trained.parameters())
    assert encoding.posterior.log_alpha[:, 1:].double().exp().max() < 1e3


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize(("share", "left"), [(0.5, [10, 2, 1]), (0.05, [1, 1, 1]), (1.0, [20, 4, 1])])
def test_a_decoder_sees_a_share_of_a_latent_s_vectors(name: str, share: float, left: list[int]):
    settings = {"VTS": {"stride_perc": 0.0}, "NVIB": {"reading": "integral"}}
    trained = model(name, **settings.get(name, {})).eval()
    latent = trained.encode(*sentences(20, 4, 1)[:2]).latent
    kept = trained.keep_some(latent, share, torch.Generator().manual_seed(1))
    others = trained.keep_some(latent, share, torch.Generator().manual_seed(2))
    visible = ~kept.key_padding_mask
    assert not (visible & latent.key_padding_mask).any()
    if name == "NVIB":
        assert visible[:, 0].all()  # the prior's component stays, as in training
        visible = visible[:, 1:]
    expected = [1, 1, 1] if name == "VTP" else left
    assert visible.sum(dim=-1).tolist() == expected
    if share == 0.5 and name != "VTP":
        assert not torch.equal(kept.key_padding_mask, others.key_padding_mask)
    assert trained.decode(sentences(5, 3, 1)[2], kept).isfinite().all()


@pytest.mark.parametrize("reading", ["plug-in", "integral"])
def test_a_model_that_learned_to_read_draws_has_them_in_place_of_vectors_left_out(reading: str):
    trained = model("NVIB", reading=reading, vector_dropout=1.0, dropped_vectors="prior").eval()
    latent = trained.encode(*sentences(20, 4, 1)[:2]).latent
    kept = trained.keep_some(latent, 0.5, torch.Generator().manual_seed(1))
    before, after = (getattr(one, "z" if reading == "plug-in" else "mu") for one in (latent, kept))
    assert torch.equal(kept.key_padding_mask, latent.key_padding_mask)
    changed = (before != after).any(dim=-1)
    assert changed.sum(dim=-1).tolist() == [10, 2, 0]
    assert not (changed & latent.key_padding_mask).any()
    assert after[changed].detach().std() == pytest.approx(1.0, abs=0.2)
    again = trained.keep_some(latent, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(after, getattr(again, "z" if reading == "plug-in" else "mu"))


def test_no_other_thing_than_a_latent_has_vectors_to_hide():
    with pytest.raises(TypeError, match="must be a memory or a mixture, got Tensor"):
        hidden(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool))


def test_a_share_of_the_texts_is_read_by_its_means_in_training():
    torch.manual_seed(3)
    trained = model("NVIB", mean_texts=0.5, kappa=2).train()
    source, mask, _ = sentences(7, 4, 6, 5, 3, 8, 2, 6)
    encoding = trained.encode(source, mask)
    latent, means = encoding.latent, encoding.posterior.mu.repeat_interleave(2, dim=1)
    own = ~latent.key_padding_mask
    of_means = [torch.equal(latent.z[row][own[row]], means[row][own[row]]) for row in range(8)]
    assert 0 < sum(of_means) < 8
    for row, whole in enumerate(of_means):
        assert own[row, :2].tolist() == [not whole] * 2  # the prior's component is in draws alone
        assert latent.log_pi[row].exp().sum().item() == pytest.approx(1.0, abs=1e-5)
        if whole:
            alpha = encoding.posterior.log_alpha[row, 1:].softmax(dim=0)
            expected = alpha.repeat_interleave(2) / 2
            torch.testing.assert_close(latent.log_pi[row, 2:].exp(), expected)
