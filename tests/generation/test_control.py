"""Control over generation: noise of the latent, mixtures, numbers of vectors, beams, lengths."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import nvib
from models import MODELS, build
from models.decoding import GREEDY, Decoding, beam_search, generate, greedy, nucleus
from models.text_model import Noise, TextModel, UnsupportedError
from pipeline.data.batches import in_order
from pipeline.experiments.load import Experiment, load_experiment
from pipeline.generation.generate import interpolations, sample
from pipeline.generation.latents import LengthRange, draw_lengths, from_prior, from_prior_with, mixture, near
from pipeline.runtime.errors import UserError
from pipeline.runtime.seeds import mixed
from tests.helpers import call, one_line_of_error, prepare_tiny

VOCABULARY, START, END = 6, 2, 3
AUTOENCODERS = [name for name, settings in MODELS.items() if settings.sees_target]
VARIATIONAL = ["VTV", "VTP", "VTS", "NVIB"]


def model(name: str, **settings: Any) -> TextModel:
    built = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16, num_heads=2, num_layers=2, **settings))
    torch.nn.init.normal_(built.embedding.weight, std=0.5)
    torch.nn.init.normal_(built.output.weight, std=0.5)
    return built.eval()


def texts(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return torch.randint(4, VOCABULARY, mask.shape).masked_fill(mask, 0), mask


def latent_of(trained: TextModel, name: str) -> Any:
    return None if name == "LM" else trained.encode(*texts(7, 4, 6)).latent


def best_of_all(trained: TextModel, latent: Any, row: int, most: int, least: int, penalty: float) -> list[int]:
    """The text with the highest score of all, each decoded as a whole."""
    words = [index for index in range(VOCABULARY) if index != END]
    scores = {}
    for count in range(least, most + 1):
        for text in itertools.product(words, repeat=count):
            inputs = torch.tensor([[START, *text]]).expand(3, -1)
            logits = trained.output(trained.decode(inputs, latent))[row]  # [count + 1, V]
            logits[:least, END] = -math.inf
            log_p = logits.log_softmax(dim=-1)
            following = [*text, END] if count < most else text  # at the limit the end is certain
            scores[text] = sum(log_p[n, index].item() for n, index in enumerate(following)) / (count + 1) ** penalty
    return list(max(scores, key=scores.__getitem__))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("penalty", "least"), [(0.0, 0), (1.0, 0), (1.5, 2)])
@torch.inference_mode()
def test_as_many_beams_as_texts_find_the_best_of_all(name: str, penalty: float, least: int):
    trained = model(name)
    latent = latent_of(trained, name)
    found = beam_search(trained, latent, 3, START, END, 3, VOCABULARY**3, penalty, least)
    assert found == [best_of_all(trained, latent, row, 3, least, penalty) for row in range(3)]


@pytest.mark.parametrize("name", MODELS)
def test_one_beam_is_greedy_decoding(name: str):
    trained = model(name)
    latent = latent_of(trained, name)
    assert beam_search(trained, latent, 3, START, END, 12, 1) == generate(trained, latent, 3, START, END, 12)


@torch.inference_mode()
def test_few_beams_are_followed_as_a_search_without_kept_keys_follows_them():
    """Which beam stands where changes with every token, and texts end at different ones."""
    trained = model("NVIB")
    trained.output.bias[END] -= 1.0
    source, mask = texts(7, 4, 6)
    found = beam_search(trained, trained.encode(source, mask).latent, 3, START, END, 9, 3)
    for row in range(3):
        latent = trained.encode(source[row : row + 1, ~mask[row]], mask[row : row + 1, ~mask[row]]).latent
        beams, ended = [(0.0, [])], []
        while beams and len(ended) < 3 and len(beams[0][1]) < 9:
            onward = []
            for log_p, text in beams:
                each = trained.output(trained.decode(torch.tensor([[START, *text]]), latent))[0, -1].log_softmax(-1)
                onward += [(log_p + value, [*text, index]) for index, value in enumerate(each.tolist())]
            onward = sorted(onward, reverse=True)[:3]
            ended += [(log_p / len(text), text[:-1]) for log_p, text in onward if text[-1] == END]
            beams = [(log_p, text) for log_p, text in onward if text[-1] != END]
        if len(ended) < 3:
            ended += [(log_p / 10, text) for log_p, text in beams]
        assert found[row] == max(ended)[1]


@pytest.mark.parametrize("decoding", [GREEDY, Decoding("sample"), Decoding("beam", beams=3)])
def test_texts_are_as_long_as_they_must_be_and_no_longer(decoding: Decoding):
    lengths = set()
    for end_bias in (-3.0, 0.0, 3.0):  # a model that hardly ends, and one that ends at once
        trained = model("NVIB")
        with torch.no_grad():
            trained.output.bias[END] += end_bias
        latent = trained.sample_prior(torch.full((40,), 6))
        lengths |= {len(text) for text in decoding(trained, latent, 40, START, END, 7, 4)}
    assert {4, 7} <= lengths <= {4, 5, 6, 7}
    assert decoding(trained, latent, 40, START, END, 0) == [[]] * 40


@pytest.mark.parametrize("name", VARIATIONAL)
def test_a_latent_s_temperature_scales_its_standard_deviation(name: str):
    """The neighbourhood at temperature 0 is the latent that is reconstructed, bit for bit."""
    trained = model(name)
    torch.nn.init.constant_(trained.bottleneck.logvar.bias, -1.0)
    one = trained.encode(*texts(4))
    assert trained.sample_posterior(one, noise=Noise(0.0)) is one.latent or torch.equal(
        trained.sample_posterior(one, noise=Noise(0.0)).vectors, one.latent.vectors
    )
    source, mask = (value.expand(4000, -1) for value in texts(4))
    encoding = trained.encode(source, mask)
    for temperature in (0.3, 1.0, 2.0):
        drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(temperature))
        z = getattr(drawn, "vectors", getattr(drawn, "z", getattr(drawn, "mu", None)))[:, -1]
        own = encoding.gaussians
        torch.testing.assert_close(z.mean(0), own.mu[0, -1], atol=0.05 * temperature, rtol=0)
        torch.testing.assert_close(z.std(0), temperature * (0.5 * own.logvar[0, -1]).exp(), rtol=0.05, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_temperature_of_the_prior_is_that_of_its_vectors_and_weights(temperature: float):
    lengths, noise = torch.full((8000,), 3), Noise(temperature)
    gaussian = model("VTV", prior_mu=0.5, prior_var=4.0).sample_prior(lengths, torch.Generator().manual_seed(1), noise)
    assert gaussian.vectors.mean().item() == pytest.approx(0.5, abs=0.05)
    assert gaussian.vectors.std().item() == pytest.approx(2.0 * temperature, rel=0.02)
    nvae = model("NVIB", prior_mu=0.5, prior_var=4.0, prior_alpha=2.0, delta=0.5)
    drawn = nvae.sample_prior(lengths, torch.Generator().manual_seed(1), noise)
    assert drawn.z.std().item() == pytest.approx(2.0 * temperature, rel=0.02)
    total = (2.0 + 0.5 * 3) / temperature**2
    expected = math.sqrt(0.25 * 0.75 / (total + 1))  # a Dirichlet's, of four equal shares
    assert drawn.log_pi.exp().std(dim=0).mean().item() == pytest.approx(expected, rel=0.03)


def test_a_latent_s_temperature_scales_the_noise_of_weights_and_leaves_their_mean():
    trained = model("NVIB")
    source, mask = (value.expand(8000, -1) for value in texts(4))
    encoding = trained.encode(source, mask)
    alpha = encoding.posterior.alpha[0]
    share, total = alpha / alpha.sum(), alpha.sum()
    for temperature in (0.3, 1.0, 3.0):
        drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(temperature))
        pi = drawn.log_pi.exp()
        torch.testing.assert_close(pi.mean(0), share, atol=0.02, rtol=0)
        expected = (share * (1 - share) / (total / temperature**2 + 1)).sqrt()  # a Dirichlet's
        torch.testing.assert_close(pi.std(0), expected, rtol=0.06, atol=0)


def test_what_a_low_temperature_does_not_draw_stays_in_the_mixture():
    """The variance of what is attended to, drawn and left together, is the posterior's."""
    trained = model("NVIB")
    encoding = trained.encode(*(value.expand(4000, -1) for value in texts(4)))
    drawn = trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(0.6))
    assert isinstance(drawn, nvib.GaussianMixture)
    whole = drawn.mu.var(dim=0) + drawn.logvar[0].exp()
    torch.testing.assert_close(whole, encoding.posterior.logvar[0].exp(), rtol=0.1, atol=0)
    prior = trained.sample_prior(torch.full((4000,), 3), torch.Generator().manual_seed(1), Noise(0.6))
    torch.testing.assert_close(prior.mu.var(dim=0) + prior.logvar[0].exp(), torch.ones(4, 16), rtol=0.1, atol=0)
    for temperature, near_it in ((1e-5, 0.0), (1 - 1e-7, 1.0)):  # and both ends are reached without a jump
        latents = [
            trained.sample_posterior(encoding, torch.Generator().manual_seed(1), Noise(t))
            for t in (temperature, near_it)
        ]
        vectors = [trained.decode(torch.full((4000, 1), START), latent) for latent in latents]
        torch.testing.assert_close(*vectors, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", VARIATIONAL)
@pytest.mark.parametrize("temperature", [0.0, 1e-7, 1e-3, 0.5, 100.0])
def test_every_temperature_gives_latents_that_decode(name: str, temperature: float):
    trained = model(name, **({"alpha_activation": "relu"} if name == "NVIB" else {}))
    noise, encoding = Noise(temperature), trained.encode(*texts(7, 4))
    for latent in (
        trained.sample_posterior(encoding, noise=noise),
        trained.sample_prior(torch.tensor([7, 4]), None, noise),
    ):
        assert trained.decode(torch.full((2, 1), START), latent).isfinite().all()


def test_kappa_draws_so_many_vectors_for_each_component():
    trained = model("NVIB")
    assert trained.sample_posterior(trained.encode(*texts(7, 4)), noise=Noise(kappa=3)).z.shape == (2, 24, 16)
    assert trained.sample_posterior(trained.encode(*texts(7)), noise=Noise(0.5, kappa=3)).mu.shape == (1, 24, 16)
    assert trained.sample_prior(torch.tensor([7]), noise=Noise(kappa=2)).z.shape == (1, 16, 16)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_mixture_of_two_is_their_interpolation_and_of_more_goes_by_weights(name: str):
    trained = model(name)
    a, b, c = (trained.encode(*texts(*lengths)).latent for lengths in ((7, 4), (3, 9), (5, 5)))

    def vectors(latent: Any) -> torch.Tensor:
        return trained.decode(torch.full((2, 1), START), latent)

    for tau in (0.0, 0.1, 1 / 3, 0.5, 0.77, 1.0):
        assert torch.equal(vectors(trained.mix([a, b], [1 - tau, tau])), vectors(trained.interpolate(a, b, tau)))
    assert trained.mix([a, b, c], [0, 1, 0]) is b
    assert trained.mix([a], [0.2]) is a
    torch.testing.assert_close(
        vectors(trained.mix([a, b, c], [5, 3, 2])), vectors(trained.mix([c, b, a], [0.2, 0.3, 0.5]))
    )
    assert not torch.allclose(vectors(trained.mix([a, b, c], [5, 3, 2])), vectors(trained.mix([a, b, c], [5, 2, 3])))


def test_a_mixture_s_components_have_the_sentences_shares():
    trained = model("NVIB")
    latents = [trained.encode(*texts(length)).latent for length in (7, 3, 5)]
    pi = trained.mix(latents, [0.5, 0.3, 0.2]).log_pi.exp()[0]
    shares = [part.sum().item() for part in pi.split([latent.log_pi.shape[1] for latent in latents])]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "vectors"),
    [("NVIB", {}, 5), ("NVIB", {"kappa": 3}, 12), ("VTV", {}, 5), ("VTP", {}, 1), ("VTS", {"stride_perc": 0.7}, 5)],
)
def test_a_latent_has_as_many_vectors_as_are_asked_for(name: str, settings: dict, vectors: int):
    trained = model(name, **settings)
    drawn = trained.sample_prior(torch.tensor([trained.length_with(vectors)] * 3))
    assert (~drawn.key_padding_mask).sum(dim=-1).tolist() == [vectors] * 3


@pytest.mark.parametrize(
    ("name", "ask", "message"),
    [
        ("NVIB", lambda m: m.length_with(1), "must be a multiple of 1 and at least 2, got 1"),
        ("NVIB", lambda m: m.length_with(7, Noise(kappa=2)), "must be a multiple of 2 and at least 4, got 7"),
        ("VTP", lambda m: m.length_with(2), "VTP keeps 2 vectors of no text"),
        ("T", lambda m: m.length_with(2), "T draws no vectors"),
        ("LM", lambda m: m.length_with(2), "LM draws no vectors"),
        ("T", lambda m: m.sample_posterior(m.encode(*texts(3))), "T has no posterior to sample from"),
        ("VTV", lambda m: m.sample_posterior(m.encode(*texts(3)), noise=Noise(kappa=2)), "kappa means nothing to it"),
        ("VTV", lambda m: m.sample_prior(torch.tensor([3]), noise=Noise(kappa=2)), "kappa means nothing to it"),
        ("LM", lambda m: m.sample_prior(torch.tensor([3]), noise=Noise(0.5)), "LM has no latent"),
        ("LM", lambda m: m.mix([None, None], [0.5, 0.5]), "LM cannot interpolate"),
    ],
)
def test_a_model_says_what_it_cannot_do(name: str, ask: Any, message: str):
    with pytest.raises(UnsupportedError, match=message):
        ask(model(name))


@pytest.mark.parametrize("values", [(-0.1,), (math.inf,), (math.nan,), (1.0, 0)])
def test_noise_out_of_range_is_refused(values: tuple):
    with pytest.raises(ValueError, match="must be"):
        Noise(*values)


# Of a trained experiment.

KING, CAT, TOWN = "The old king saw the river .", "a young cat left the house.", "the queen found a town."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tiny data, an NVAE and a vanilla Transformer that have hardly learnt."""
    folder = tmp_path_factory.mktemp("control")
    prepare_tiny(folder / "data")
    for name, kind in (("nvib", "NVIB"), ("vanilla", "T")):
        small = ("--DATA", "tiny", "--DIM_H", 16, "--PRECISION", "fp32", "--MAX_STEPS", 20)
        call("train.py", *at(folder, name), "--MODEL", kind, *small)
    return folder


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return load_experiment(folder / "outputs", "nvib", "nvib", folder / "data")


def at(folder: Path, name: str) -> tuple[object, ...]:
    return ("--EXPERIMENT_NAME", name, "--OUTPUT_DIR", folder / "outputs", "--DATA_DIR", folder / "data")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    path = folder / "outputs" / "nvib" / "nvib" / "samples.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("method", ["greedy", "sample"])
def test_samples_without_control_are_those_of_plain_generation(folder: Path, experiment: Experiment, method: str):
    """Written out: lengths by the seed, then latents and tokens of each batch by a seed of its own."""
    call("sample.py", *at(folder, "nvib"), "--NUMBER_SAMPLES", 7, "--GENERATION_BATCH_SIZE", 4, "--DECODING", method)
    distribution, tokenizer = experiment.data.length_distribution, experiment.data.tokenizer
    lengths = draw_lengths(distribution, 7, LengthRange("data"), 42)
    made = []
    for chunk in in_order(7, 4):
        generator = torch.Generator().manual_seed(mixed(42, chunk[0]))
        latent = nvib.Prior().sample(torch.tensor([lengths[number] for number in chunk]), 16, 1, generator)
        choose = greedy if method == "greedy" else nucleus(generator=generator)
        ends = (tokenizer.cls_id, tokenizer.sep_id)
        made += generate(experiment.model, latent, len(chunk), *ends, max(distribution), choose)
    assert [list(row.values()) for row in rows_of(folder)] == [
        [tokenizer.decode(ids), length, len(ids)] for ids, length in zip(made, lengths, strict=True)
    ]
    assert list(rows_of(folder)[0]) == ["text", "drawn_length", "tokens_generated"]


def test_near_a_sentence_at_temperature_0_is_its_reconstruction(folder: Path, experiment: Experiment):
    from pipeline.generation.generate import decode
    from pipeline.generation.latents import encoded

    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--LATENT_TEMPERATURE", 0)
    with torch.inference_mode():
        ((text, ids),) = decode(experiment, encoded(experiment, "the old king saw the river.").latent, 1)
    assert rows_of(folder) == [{"text": text, "near": KING, "tokens_generated": len(ids)}]
    summary = json.loads((folder / "outputs" / "nvib" / "nvib" / "summary.json").read_text())
    assert "samples/mean_drawn_length" not in summary
    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--KAPPA", 3, "--NUMBER_SAMPLES", 5, "--DECODING", "beam")
    assert [row["near"] for row in rows_of(folder)] == [KING] * 5


def test_a_mixture_of_two_sentences_is_what_lies_between_them(folder: Path, experiment: Experiment):
    row = interpolations(experiment, 1, 1)[0]
    for tau in (0.0, 0.25, 0.5, 0.75, 1.0):
        made = ("--MIX", row["source"], row["target"], "--WEIGHTS", 1 - tau, tau)
        call("sample.py", *at(folder, "nvib"), *made)
        (own,) = rows_of(folder)
        assert own["text"] == row["outputs"][f"{tau:g}"]
        assert own["mixed"] == [row["source"], row["target"]]
        assert own["weights"] == [1 - tau, tau]
    call("sample.py", *at(folder, "nvib"), "--MIX", KING, CAT, TOWN, "--WEIGHTS", 2, 1, 1, "--LATENT_TEMPERATURE", 1)
    assert len(rows_of(folder)) == 200
    assert rows_of(folder)[0]["weights"] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("control", [(), ("--NEAR", KING), ("--VECTORS", 9), ("--DECODING", "beam")])
def test_sentences_keep_to_the_lengths_that_are_asked_for(folder: Path, control: tuple):
    for low, high in ((11, 12), (30, 30), (1, 1)):
        lengths = ("--MIN_LENGTH", low, "--MAX_LENGTH", high, "--NUMBER_SAMPLES", 6)
        drawn = () if control and control[0] in ("--NEAR", "--VECTORS") else ("--SAMPLING_DISTRIBUTION", "uniform")
        call("sample.py", *at(folder, "nvib"), *control, *drawn, *lengths)
        rows = rows_of(folder)
        assert all(low <= row["tokens_generated"] + 1 <= high for row in rows)  # the end token counts
    call("sample.py", *at(folder, "nvib"), "--NEAR", KING, "--MIN_LENGTH", 70, "--NUMBER_SAMPLES", 2)
    assert all(row["tokens_generated"] + 1 >= 70 for row in rows_of(folder))  # longer than any training sentence


def test_rows_say_how_many_vectors_were_asked_for(folder: Path):
    call("sample.py", *at(folder, "nvib"), "--VECTORS", 9, "--NUMBER_SAMPLES", 2)
    assert [list(row) for row in rows_of(folder)] == [["text", "vectors", "tokens_generated"]] * 2
    assert rows_of(folder)[0]["vectors"] == 9


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("vanilla", ("--NEAR", KING), "T has no posterior to sample from"),
        ("vanilla", ("--VECTORS", 3), "T draws no vectors"),
        ("vanilla", ("--KAPPA", 3), "T has no prior to sample from"),
        ("nvib", ("--VECTORS", 1), "at least 2, got 1"),
        ("nvib", ("--VECTORS", 5, "--KAPPA", 2), "must be a multiple of 2 and at least 4, got 5"),
        ("nvib", ("--NEAR", "!?"), "nothing is left of the sentence '!?'"),
        ("nvib", ("--MIX", KING, "**"), "nothing is left of the sentence '**'"),
    ],
)
def test_what_a_model_cannot_do_is_one_line_and_leaves_all_as_it_was(
    folder: Path, name: str, flags: tuple, message: str
):
    files = {path: path.read_bytes() for path in (folder / "outputs" / "nvib" / name).rglob("*") if path.is_file()}
    assert message in one_line_of_error(call("sample.py", *at(folder, name), *flags, expect=2))
    assert files == {path: path.read_bytes() for path in files}


def test_a_vanilla_transformer_mixes(folder: Path):
    call("sample.py", *at(folder, "vanilla"), "--MIX", KING, CAT, "--DECODING", "beam", "--BEAMS", 2)


def test_mixtures_are_of_mean_latents_unless_noise_is_asked_for(experiment: Experiment):
    latents = [mixture(experiment, [KING, CAT]).draw([0], torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert torch.equal(latents[0].log_pi, latents[1].log_pi)
    assert torch.equal(latents[0].mu, latents[1].mu)


def test_sources_check_what_python_gives_them(experiment: Experiment):
    with pytest.raises(UserError, match="there are 2 sentences to mix and 1 weights"):
        mixture(experiment, [KING, CAT], [1.0])
    for weights in ([1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(UserError, match="weights must not be negative, and not all 0"):
            mixture(experiment, [KING, CAT], weights)


def test_the_same_seed_gives_the_same_samples_of_every_source(experiment: Experiment):
    for source in (
        from_prior(experiment, [5, 9, 7], Noise(0.5)),
        from_prior_with(experiment, 6, 3),
        near(experiment, KING),
        mixture(experiment, [KING, CAT], None, Noise(1.0)),
    ):
        first, again = (source.draw([0, 1, 2], torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first.log_pi, again.log_pi)
        assert len(sample(experiment, source, 3, 1, Decoding("sample"), 2)) == 3
