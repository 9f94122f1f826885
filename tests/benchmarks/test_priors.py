"""Candidates for the learned prior: what they fit, the symmetry of the flow, and what the comparison writes."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import prior_flow, prior_judges, prior_tables, prior_vectors, priors
from benchmarks.prior_candidates import Posteriors, TokenMixture, collect, plain_rate, source_of
from benchmarks.prior_flow import FlowNetwork, Space, flow_loss
from models.text_model import AS_TRAINED
from pipeline.experiments.load import load_experiment
from pipeline.runtime.errors import UserError
from tests.benchmarks.test_own_texts import LengthEncoder
from tests.data.own_files import MANY, write_table
from tests.helpers import call, train_tiny
from tests.models.tiny_bases import save_base

END = 1


def posteriors(texts: int = 400, width: int = 6) -> Posteriors:
    """Random posteriors over five tokens, each with a mean and a pseudo-count of its own; token 1 ends a text."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 6, (texts,), generator=generator)
    tokens = torch.randint(2, 5, (int(lengths.sum()),), generator=generator)
    tokens[lengths.cumsum(0) - 1] = END
    means, noise = torch.randn(5, width, generator=generator), torch.randn(len(tokens), width, generator=generator)
    found = Posteriors(noise, tokens.float() / 4, tokens, lengths, torch.zeros(width), torch.zeros(3, width))
    by_position = torch.linspace(-1, 1, 6)[found.positions].unsqueeze(1)
    return Posteriors(
        3 * means[tokens] + by_position + 0.5 * noise,
        found.log_alpha,
        tokens,
        lengths,
        torch.full((width,), -2.0),
        torch.stack([torch.zeros(width), torch.full((width,), 0.5), torch.full((width,), -1.0)]),
    )


def drawn(candidate: Any, lengths: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Draw from a candidate, and leave padding out: means [T, D] and log pseudo-counts [T]."""
    mu, log_alpha = candidate.draw(lengths, torch.Generator().manual_seed(seed))
    real = torch.arange(mu.shape[1]) < lengths.unsqueeze(1)
    return mu[real], log_alpha[real]


# The mixture.


def test_the_mixture_has_the_moments_of_the_posteriors():
    data = posteriors()
    mixture = TokenMixture.fit(data, 5, END)
    mu, log_alpha = drawn(mixture, data.lengths.repeat(20))
    assert torch.allclose(mu.mean(0), data.mu.mean(0), atol=0.1)
    assert torch.allclose(mu.std(0), data.mu.std(0), rtol=0.05)
    assert log_alpha.mean() == pytest.approx(float(data.log_alpha.mean()), abs=0.02)
    assert torch.allclose(mixture.variance.sqrt(), torch.full((6,), 0.5), atol=0.05)  # what token and position leave


def test_the_last_component_is_the_end_token_and_no_other():
    data = posteriors()
    lengths = torch.tensor([2, 4, 7])  # longer than any text, too
    _, log_alpha = TokenMixture.fit(data, 5, END).draw(lengths, torch.Generator().manual_seed(0))
    ends = (log_alpha == log_alpha[0, 1]) & (torch.arange(7) < lengths.unsqueeze(1))
    assert ends.nonzero().tolist() == [[0, 1], [1, 3], [2, 6]]


def test_codes_of_any_affine_map_make_the_mixture_that_fits_best():
    """Turned, scaled and shifted codes give the same mixture; with the true means its variance is that of the noise."""
    data = posteriors()
    data = replace(data, mu=data.mu - torch.linspace(-1, 1, 6)[data.positions].unsqueeze(1))  # no part of positions
    means = torch.stack([data.mu[data.tokens == max(token, END)].mean(dim=0) for token in range(5)])
    first = TokenMixture.around(data, means, END)
    assert torch.allclose(first.variance.sqrt(), torch.full((6,), 0.5), atol=0.02)
    assert torch.allclose(first.by_token, means, atol=1e-3)
    turned = 7 * means @ torch.randn(6, 6, generator=torch.Generator().manual_seed(4)) - torch.arange(6.0)
    other = TokenMixture.around(data, turned, END)
    assert torch.allclose(other.by_token, first.by_token, atol=1e-3)


def test_the_rate_is_the_divergence_of_the_posteriors_from_the_mixture():
    """With one token but the end, the mixture is a Gaussian, and the rate is that of two Gaussians."""
    data = posteriors()
    tokens = torch.where(data.tokens == END, END, 2)
    alone = replace(data, tokens=tokens, mu=torch.randn(data.mu.shape, generator=torch.Generator().manual_seed(3)) + 1)
    mixture = TokenMixture.fit(alone, 5, END)
    mixture.by_token[[0, 3, 4]] = 1e3  # these tokens are never mistaken for another one
    own, whole = alone.logvar.exp(), mixture.variance + alone.logvar.exp()
    places = mixture.by_position[alone.positions] + mixture.by_token[alone.tokens]
    divergences = 0.5 * (((alone.mu - places).square() + own) / whole - 1 + (whole / own).log()).sum(dim=1)
    share = mixture.weights[2] / (mixture.weights[2] + 4)  # a token without an occurrence counts as one
    weights = -share.log() * (alone.tokens != END).float()
    found = mixture.rate(alone, torch.Generator().manual_seed(0))
    assert found == pytest.approx(float((divergences + weights).mean()), abs=0.1)


def test_the_rate_of_tokens_that_are_never_mistaken_is_their_entropy():
    data = posteriors()
    sharp = replace(data, mu=20 * torch.eye(6)[data.tokens])
    exact = TokenMixture.fit(sharp, 5, END)
    exact.by_token.copy_(20 * torch.eye(6)[:5])
    exact.by_position.zero_()
    exact.variance.zero_()
    shares = torch.bincount(sharp.tokens[sharp.tokens != END], minlength=5).clamp_min(1)
    surprises = -(shares / shares.sum()).log()[sharp.tokens] * (sharp.tokens != END)
    assert exact.rate(sharp, torch.Generator().manual_seed(0)) == pytest.approx(float(surprises.mean()), abs=1e-3)
    assert plain_rate(sharp) > 10 * float(surprises.mean())


def test_the_rate_of_the_plain_prior_is_the_divergence_of_two_gaussians():
    data = posteriors()
    own = torch.distributions.Normal(data.mu, (0.5 * data.logvar).exp().expand_as(data.mu))
    base = torch.distributions.Normal(data.base[0], (0.5 * data.base[1]).exp())
    expected = torch.distributions.kl_divergence(own, base).sum(dim=1).mean()
    assert plain_rate(data) == pytest.approx(float(expected), rel=1e-5)


def test_rates_take_the_variances_of_each_token():
    """Half of the tokens with a variance e times as large and half with 1 / e: not the rate of the mean."""
    data = posteriors()
    spread = torch.linspace(-1, 1, len(data.tokens)).sign().unsqueeze(1).expand_as(data.mu)
    each = replace(data, logvar=data.logvar + spread)
    own = torch.distributions.Normal(each.mu, (0.5 * each.logvar).exp())
    base = torch.distributions.Normal(data.base[0], (0.5 * data.base[1]).exp())
    expected = torch.distributions.kl_divergence(own, base).sum(dim=1).mean()
    assert plain_rate(each) == pytest.approx(float(expected), rel=1e-5)
    whole = TokenMixture.fit(data, 5, END).rate(each, torch.Generator().manual_seed(0))
    parts = [
        TokenMixture.fit(data, 5, END).rate(replace(data, logvar=data.logvar + sign), torch.Generator().manual_seed(0))
        for sign in (-1, 1)
    ]
    assert whole == pytest.approx(sum(parts) / 2, abs=0.5)


# The flow.


def network(ordered: bool, coordinates: int = 3) -> FlowNetwork:
    torch.manual_seed(0)
    made = FlowNetwork(coordinates, ordered, width=32, heads=2, layers=2)
    for parameter in made.parameters():  # the conditions begin at zero, where they could not break anything
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.mark.parametrize("ordered", [False, True])
def test_the_flow_is_equivariant_to_permutations_unless_it_is_ordered(ordered: bool):
    x, earlier, lengths = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.tensor([5, 5])
    order = torch.tensor([3, 0, 4, 1, 2])
    made, time = network(ordered), torch.tensor([0.2, 0.7])
    before, after = made(x, time, lengths, earlier), made(x[:, order], time, lengths, earlier[:, order])
    assert torch.allclose(before[:, order], after, atol=1e-4) is not ordered


def test_padding_changes_no_component_of_the_flow():
    x, time = torch.randn(1, 5, 3), torch.tensor([0.4])
    made, lengths = network(True), torch.tensor([3])
    whole = made(x, time, lengths, torch.zeros_like(x))[:, :3]
    assert torch.allclose(whole, made(x[:, :3], time, lengths, torch.zeros(1, 3, 3)), atol=1e-5)


def test_every_weight_of_the_flow_has_a_gradient_with_an_earlier_prediction():
    """Autocast keeps the weights that it cast, and those cast without a gradient must not serve the second pass."""
    for seed in range(4):  # about half of the steps have an earlier prediction
        made = network(True)
        torch.manual_seed(seed)
        flow_loss(made, [torch.randn(4, 3), torch.randn(2, 3)]).backward()
        for name, parameter in made.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_coordinates_keep_means_within_the_directions():
    data = posteriors()
    space = Space.fit(data)
    mu, log_alpha = space.decode(space.encode(data.mu, data.log_alpha))
    assert torch.allclose(mu, data.mu, atol=1e-4)
    assert torch.allclose(log_alpha, data.log_alpha, atol=1e-5)
    fewer = Space.fit(data, directions=2)
    error = (fewer.decode(fewer.encode(data.mu, data.log_alpha))[0] - data.mu).square().sum()
    spectrum = torch.linalg.svdvals(data.mu - data.mu.mean(0)).square()
    assert float(error) == pytest.approx(float(spectrum[2:].sum()), rel=1e-3)


@pytest.mark.slow
def test_a_trained_flow_draws_sets_of_the_distribution():
    """Sets of two components, one at +2 and the other at -2 in any order: both are there, which draws apart miss."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (500,), generator=generator) * 4.0 - 2.0
    values = torch.stack([signs, -signs], dim=1).reshape(-1)
    mu = values.unsqueeze(1) + 0.05 * torch.randn(1000, 2, generator=generator)
    noise, empty = torch.randn(1000, generator=generator), torch.zeros(1000, dtype=torch.long)
    data = Posteriors(mu, noise, empty, torch.full((500,), 2), torch.zeros(2), torch.zeros(3, 2))
    torch.manual_seed(0)
    small = FlowNetwork(3, False, width=64, heads=2, layers=1)
    flow = prior_flow.train(data, False, 10.0, 0, small, most=120)
    assert flow.updates == 120
    found = flow.draw(torch.full((200,), 2), torch.Generator().manual_seed(1))[0][..., 0]  # [200, 2]
    assert (found.abs() - 2).abs().mean() < 0.5
    assert ((found[:, 0] > 0) != (found[:, 1] > 0)).float().mean() > 0.9


# The autoregressive prior over vectors.


def vector_network(data: Posteriors) -> prior_vectors.VectorNetwork:
    torch.manual_seed(0)
    made = prior_vectors.VectorNetwork(TokenMixture.fit(data, 5, END), width=32, heads=2, layers=1)
    for parameter in made.parameters():  # weights and shift begin at zero, where nothing depends on the vectors
        if parameter is not made.log_residual:
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def test_a_vector_depends_on_those_before_it_alone():
    made, z = vector_network(posteriors()), torch.randn(1, 5, 6)
    changed = z.clone()
    changed[:, 2] += 1.0
    lengths = torch.tensor([5])
    for before, after in zip(made(z, lengths), made(changed, lengths), strict=True):
        assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6)
        assert not torch.allclose(before[:, 3], after[:, 3], atol=1e-3)


def test_the_last_vector_is_the_end_token_s_and_padding_changes_nothing():
    made, z = vector_network(posteriors()), torch.randn(2, 4, 6)
    lengths = torch.tensor([4, 3])
    with torch.inference_mode():
        weights, places = made(z, lengths)
        alone = made(z[1:, :3], lengths[1:])
    assert (weights.argmax(dim=-1) == END).tolist() == [[False, False, False, True], [False, False, True, False]]
    assert weights[1, 2, END] == pytest.approx(0.0, abs=1e-5)
    assert torch.allclose(weights[1, :3], alone[0][0], atol=1e-5)
    assert torch.allclose(places[1, :3], alone[1][0], atol=1e-5)


def test_a_new_prior_over_vectors_has_the_rate_of_the_mixture():
    data = posteriors(40)
    mixture = TokenMixture.fit(data, 5, END)
    made = prior_vectors.VectorNetwork(mixture, width=32, heads=2, layers=1)
    prior = prior_vectors.VectorPrior(made, mixture.counts, 1.0, 0, 0.0)
    found, expected = (one.rate(data, torch.Generator().manual_seed(0)) for one in (prior, mixture))
    assert found == pytest.approx(expected, abs=0.01)


def test_the_bound_of_vectors_is_near_their_density_where_tokens_are_clear():
    data = posteriors(20)
    counts = data.lengths.tolist()
    z, tokens = (torch.nn.utils.rnn.pad_sequence(part.split(counts), True) for part in (data.mu, data.tokens))
    real = torch.arange(z.shape[1]) < data.lengths.unsqueeze(1)
    far = replace(TokenMixture.fit(data, 5, END), noise=data.logvar - 4)
    for made in (vector_network(data), prior_vectors.VectorNetwork(far, width=32, heads=2, layers=1)):
        bound, density = made.bound(z, tokens, data.lengths), made.log_density(z, data.lengths)[real].mean()
        assert bound <= density + 0.1  # the bound is computed in bfloat16
    assert torch.allclose(bound, density, atol=0.1)


@pytest.mark.slow
def test_a_trained_prior_over_vectors_draws_the_order_of_the_tokens():
    """Tokens 2, 3 and 4 follow each other in a circle, which the mixture does not know."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(0, 3, (300, 1), generator=generator)
    tokens = 2 + (starts + torch.arange(4)) % 3
    tokens[:, -1] = END
    means = 3 * torch.randn(5, 6, generator=generator)
    noise = 0.1 * torch.randn(1200, 6, generator=generator)
    empty = torch.zeros(1200)
    data = Posteriors(
        means[tokens.view(-1)] + noise, empty, tokens.view(-1), torch.full((300,), 4), torch.full((6,), -4.0), noise[:3]
    )
    mixture = TokenMixture.fit(data, 5, END)
    torch.manual_seed(0)
    small = prior_vectors.VectorNetwork(mixture, width=64, heads=2, layers=1)
    trained = prior_vectors.train(data, mixture, 10.0, 0, 1.0, small, most=120)
    assert trained.updates == 120
    rate, before = (one.rate(data, torch.Generator().manual_seed(1)) for one in (trained, mixture))
    assert rate < before - 0.4  # all tokens but the first are certain, of ln 3 nats each
    mu, _ = trained.draw(torch.full((200,), 4), torch.Generator().manual_seed(2))
    drawn_tokens = torch.cdist(mu, means.expand(200, 5, 6)).argmin(dim=-1)
    assert (drawn_tokens[:, -1] == END).all()
    assert (drawn_tokens[:, 1] == 2 + (drawn_tokens[:, 0] - 1) % 3).float().mean() > 0.9
    assert drawn_tokens[:, 0].unique().tolist() == [2, 3, 4]


# The comparison.


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NVAE, a Transformer and a language model of the same data."""
    import shutil

    folder = tmp_path_factory.mktemp("priors")
    for part in ("data", "outputs"):
        shutil.copytree(trained / part, folder / part)
    train_tiny(folder, "lm", "LM")
    return folder


@pytest.mark.slow
def test_the_source_draws_from_the_components_of_its_candidate(folder: Path):
    experiment = load_experiment(folder / "outputs", "nvib", "nvib", folder / "data")
    data = collect(experiment, "train", 16)
    split = experiment.data.splits["train"]
    assert data.lengths.tolist() == split["length"]
    assert data.tokens[: int(data.lengths[0])].tolist() == split[0]["input_ids"][1:]
    some = collect(experiment, "train", 16, each=True, texts=20)
    assert some.lengths.tolist() == split["length"][:20]
    assert len(some.mu) == len(some.tokens) == len(some.log_alpha) == len(some.logvar) == sum(split["length"][:20])

    class Fixed:
        def draw(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            shape = len(lengths), int(lengths.max())
            return torch.full((*shape, data.mu.shape[1]), 7.0), torch.full(shape, 3.0)

    source = source_of(experiment, Fixed(), data, [2, 4], AS_TRAINED)
    latent: Any = source.draw([0, 1], torch.Generator().manual_seed(0), None)
    mixture = getattr(latent, "mixture", latent)
    own = (~mixture.key_padding_mask).sum(dim=1).tolist()
    model: Any = experiment.model
    kappa = model.settings.kappa
    assert own == [3 * kappa, 5 * kappa]  # with the prior's component
    first = mixture.z[1, kappa:] - 7.0
    assert first.abs().mean() < 4 * (0.5 * data.logvar).exp().mean()
    assert source.made_from(1) == {"drawn_length": 4}


@pytest.mark.slow
def test_a_model_without_pseudo_counts_is_refused(folder: Path):
    experiment = load_experiment(folder / "outputs", "nvib", "vanilla", folder / "data")
    with pytest.raises(UserError, match="vanilla has no posterior with pseudo-counts; name an NVAE"):
        collect(experiment, "train", 16)


@pytest.mark.slow
def test_the_comparison_writes_a_row_for_each_prior_and_decoding(folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.read_bytes() for path in (folder / "outputs").rglob("*") if path.is_file()}
    flags = ("--EXPERIMENT_NAME", "nvib", "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")
    flags += ("--LANGUAGE_MODEL_PRIOR", "lm", "--JUDGE", "lm", "--MINUTES", 0.005, "--NUMBER_SAMPLES", 6)
    flags += ("--REVERSE_STEPS", 2)
    flags += ("--RESULTS", folder / "priors.json", "--FIGURE", folder / "priors.png")
    monkeypatch.setattr(sys, "argv", ["priors", *map(str, flags)])
    priors.main()
    assert {path: path.read_bytes() for path in (folder / "outputs").rglob("*") if path.is_file()} == before
    assert (folder / "priors.png").stat().st_size > 1000
    results = json.loads((folder / "priors.json").read_text())
    expected = [(name, method) for name in priors.SCRATCH for method in ("greedy", "sample")]
    assert [(row["prior"], row["decoding"]) for row in results["rows"]] == expected
    for row in results["rows"]:
        assert ("same_draw_bleu" in row) is (row["decoding"] == "sample")
        assert len(row["examples"]) == 2
        assert row["reverse_perplexity"] > 1
    page = prior_tables.priors(results)
    assert page.count("\n| flow in reading order |") == 4  # two rows of figures, two samples
    monkeypatch.setattr(sys, "argv", ["priors", *map(str, (*flags, "--JUDGE", "vanilla"))])
    with pytest.raises(UserError, match="--JUDGE vanilla is of the model T; name one of --MODEL LM"):
        priors.main()
    monkeypatch.setattr(sys, "argv", ["priors", *map(str, flags), "--PRIORS", "embeddings"])
    with pytest.raises(UserError, match="nvib has no embeddings of a causal base; leave embeddings out of --PRIORS"):
        priors.main()


@pytest.mark.slow
def test_an_nvae_around_a_base_is_compared_under_a_pretrained_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base = save_base(tmp_path / "base")
    write_table(tmp_path / "own.csv", text=MANY)
    source = ("--DATA", tmp_path / "own.csv", "--TEXT_COLUMN", "text")
    call("prepareDatasets.py", *source, "--TOKENIZER", base, "--DATA_DIR", tmp_path / "data")
    for name, model in (("lm", "LM"), ("nvae", "NVIB")):
        flags = ("--EXPERIMENT_NAME", name, "--MODEL", model, "--DATA", "own", "--MAX_STEPS", 2, "--PRETRAINED", base)
        call("train.py", *flags, "--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "outputs")
    monkeypatch.setattr(prior_judges, "load_encoder", LengthEncoder)
    flags = ("--EXPERIMENT_NAME", "nvae", "--OUTPUT_DIR", tmp_path / "outputs", "--DATA_DIR", tmp_path / "data")
    flags += ("--LANGUAGE_MODEL_PRIOR", "lm", "--JUDGE", base, "--NUMBER_SAMPLES", 6, "--REVERSE_STEPS", 2)
    flags += ("--RESULTS", tmp_path / "priors.json", "--FIGURE", tmp_path / "priors.png")
    names = ("plain", "mixture", "embeddings", "autoregressive")
    monkeypatch.setattr(sys, "argv", ["priors", *map(str, flags), "--PRIORS", *names])
    priors.main()
    rows = json.loads((tmp_path / "priors.json").read_text())["rows"]
    assert [row["prior"] for row in rows] == [name for name in names for _ in range(2)]
    assert all(row["rate"] > 0 and row["forward_perplexity"] > 1 and row["reverse_perplexity"] > 1 for row in rows)
    monkeypatch.setattr(prior_judges, "load_encoder", lambda: None)
    with pytest.raises(UserError, match="base has no MAUVE: it needs the sentence encoder"):
        priors.main()
