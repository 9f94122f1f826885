"""Models around a pretrained causal language model: decoding in steps, batches, and the latent as a prompt."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from models.decoding import generate
from models.latent import Draws, Memory, Placed, hidden
from models.text_model import Noise, UnsupportedError
from nvib import DiscreteMixture, GaussianMixture
from tests.models.tiny_bases import (
    END,
    FAMILIES,
    HEADS,
    LAYERS,
    START,
    WIDTH,
    around,
    decoded,
    disturbed,
    save_base,
    stepped,
    texts,
)

KINDS = ("NVIB", "VTV", "VTS", "LM")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each family."""
    return {family: save_base(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture
def base(bases: dict[str, Path]) -> Path:
    """A tiny Llama."""
    return bases["llama"]


def latent_of(model: Any, source: torch.Tensor, mask: torch.Tensor) -> Any:
    return None if model.settings.name == "LM" else model.encode(source, mask).latent


def pretrained(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_steps_give_the_logits_of_all_positions_at_once(bases: dict[str, Path], family: str, name: str):
    model = disturbed(around(bases[family], name))
    source, mask, target_input = texts(bases[family], 9, 4, 1)
    latent = latent_of(model, source, mask)
    expected, found = decoded(model, latent, target_input), stepped(model, latent, target_input)
    assert (expected[0].softmax(dim=-1).std(dim=0) > 1e-3).any()  # the positions differ
    torch.testing.assert_close(found[~mask], expected[~mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_text_does_not_depend_on_the_other_texts_of_its_batch(bases: dict[str, Path], family: str, name: str):
    model = disturbed(around(bases[family], name))
    source, mask, target_input = texts(bases[family], 3, 11, 6)
    latent = latent_of(model, source, mask)
    for made in (decoded, stepped):
        together = made(model, latent, target_input)
        for row, length in enumerate((3, 11, 6)):
            own = (slice(row, row + 1), slice(length))
            alone = made(model, latent_of(model, source[own], mask[own]), target_input[own])
            torch.testing.assert_close(together[own], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_selected_rows_continue_their_own_texts(bases: dict[str, Path], name: str):
    for family in FAMILIES:
        model = disturbed(around(bases[family], name))
        source, mask, target_input = texts(bases[family], 7, 7, 5, 7)
        latent = latent_of(model, source, mask)
        expected, state = decoded(model, latent, target_input), model.start(latent)
        for position in range(3):
            _, state = model.step(target_input[:, position], position, state)
        rows = torch.tensor([3, 0, 1])
        found, state = model.step(target_input[rows, 3], 3, [part.select(rows) for part in state])
        torch.testing.assert_close(found, expected[rows, 3], rtol=1e-4, atol=1e-4)
        found, _ = model.step(target_input[rows[1:], 4], 4, [part.select(torch.tensor([1, 2])) for part in state])
        torch.testing.assert_close(found, expected[rows[1:], 4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_a_selected_past_has_the_tokens_of_another_text_with_the_same_latent(base: Path, name: str):
    model = disturbed(around(base, name))
    source, mask, target_input = texts(base, 6, 6, 6)
    latent = latent_of(model, source, mask)
    latent = None if latent is None else latent.select(torch.tensor([0, 0, 0]))
    expected, state = decoded(model, latent, target_input), model.start(latent)
    for position in range(4):
        _, state = model.step(target_input[:, position], position, state)
    past = torch.tensor([2, 2, 0])
    found, _ = model.step(target_input[past, 4], 4, [part.select_past(past) for part in state])
    torch.testing.assert_close(found, expected[past, 4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_language_model_is_the_base_before_training(bases: dict[str, Path], family: str):
    source, mask, target_input = texts(bases[family], 8, 5)
    model = around(bases[family], "LM")
    weight, bias = model.head
    found = model.decode(target_input, None) @ weight.t() + bias
    whole = pretrained(bases[family])
    torch.testing.assert_close(found, whole(target_input).logits, rtol=1e-4, atol=1e-4)
    _, loss = model(source, mask, target_input)
    logits = whole(target_input).logits[~mask]
    assert loss.mean.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, source[~mask]).item(), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_base_reads_an_instruction_the_text_and_a_line_break_before_training(bases: dict[str, Path], family: str):
    """The embeddings of the tokens come back from the latent, so that the outputs are the base's own."""
    folder = bases[family]
    source, mask, target_input = texts(folder, 8)
    model: Any = around(folder)
    prompt = model.prompt(model.encode(source, mask).latent)
    first, embeddings = len(model.instruction), model.embeddings
    read = prompt.vectors[:, first + 1 :]  # behind the prior's component, which is not seen
    torch.testing.assert_close(read, embeddings[source], rtol=1e-3, atol=1e-3)
    assert prompt.bias[0, first] <= -1e4
    torch.testing.assert_close(prompt.bias[:, first + 1 :], torch.zeros(1, 8), rtol=0, atol=1e-5)
    ids = torch.cat([model.instruction, source[0], model.line_break, target_input[0, 1:]]).unsqueeze(0)
    steps = torch.arange(ids.shape[1])
    positions = torch.where(steps < first, steps, steps + 1).unsqueeze(0)  # the prior's component has a position
    expected = pretrained(folder)(ids, position_ids=positions).logits[:, first + 8 :]
    found = model.decode(target_input, model.encode(source, mask).latent) @ model.head[0].t()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@torch.no_grad()
def test_a_hidden_vector_changes_nothing_and_a_lighter_one_is_attended_less(base: Path):
    model: Any = disturbed(around(base))
    source, mask, target_input = texts(base, 6)
    latent = model.encode(source, mask).latent
    without = latent.key_padding_mask.clone()
    without[:, 3] = True
    other = DiscreteMixture(latent.z.clone(), latent.log_pi, latent.key_padding_mask)
    other.z[:, 3] += 1.0
    a, b = (decoded(model, hidden(made, without), target_input) for made in (latent, other))
    torch.testing.assert_close(a, b)
    light = latent.log_pi.clone()
    light[:, 3] -= 5.0
    weights = [
        model.attention_weights(target_input, DiscreteMixture(latent.z, log_pi, latent.key_padding_mask))[..., 3]
        for log_pi in (latent.log_pi, light)
    ]
    assert (weights[1] < weights[0]).all()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_attention_weights_sum_to_one_over_the_vectors(bases: dict[str, Path], family: str):
    model: Any = disturbed(around(bases[family]))
    source, mask, target_input = texts(bases[family], 6, 3)
    latent = model.encode(source, mask).latent
    before = decoded(model, latent, target_input)
    weights = model.attention_weights(target_input, latent)
    assert weights.shape == (2, LAYERS, HEADS, 6, 7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, LAYERS, HEADS, 6))
    assert (weights.masked_select(latent.key_padding_mask[:, None, None, None]) == 0).all()
    torch.testing.assert_close(decoded(model, latent, target_input), before)  # the fused attention is back


@torch.no_grad()
def test_vectors_of_draws_share_the_position_of_their_component(base: Path):
    """Equal draws of every component, each with half the weight, are the component."""
    model: Any = disturbed(around(base, kappa=2, alpha_threshold=0.0))
    source, mask, target_input = texts(base, 6, 4)
    latent = model.encode(source, mask).latent
    assert isinstance(latent, DiscreteMixture)  # the means: one vector a component
    parts = (latent.z, latent.log_pi - math.log(2.0), latent.key_padding_mask)
    twice = Placed.of(DiscreteMixture(*(part.repeat_interleave(2, dim=1) for part in parts)), 2)
    expected = decoded(model, latent, target_input)
    for made in (decoded, stepped):
        torch.testing.assert_close(made(model, twice, target_input)[~mask], expected[~mask], rtol=1e-4, atol=1e-4)


def test_training_and_sampling_with_two_draws_place_them_at_their_component(base: Path):
    model: Any = around(base, kappa=2)
    source, mask, target_input = texts(base, 5, 3)
    encoding, loss = model.train()(source, mask, target_input)
    loss.mean.backward()
    drawn = [encoding.latent, model.sample_prior(torch.tensor([5, 3])), model.sample_posterior(encoding)]
    drawn += around(base, kappa=2, reading="draws-3").encode(source, mask).latent.latents
    drawn.append(model.sample_posterior(encoding, noise=Noise(temperature=0.5)))
    for latent in drawn:
        assert latent.positions.tolist() == [[n // 2 for n in range(12)]] * 2
        assert latent.select(torch.tensor([1])).positions.tolist() == [[n // 2 for n in range(12)]]
    model.eval()
    assert model.sample_prior(torch.tensor([5]), noise=Noise(kappa=3)).positions[0].tolist() == [
        n // 3 for n in range(18)
    ]
    assert isinstance(model.sample_prior(torch.tensor([5]), noise=Noise(kappa=1)), DiscreteMixture)
    assert isinstance(model.sample_prior(torch.tensor([5]), noise=Noise(temperature=0.0)), GaussianMixture)
    kept = model.keep_some(drawn[0], 0.5)
    assert int((~kept.key_padding_mask).sum()) < 20
    assert decoded(model, kept, target_input).isfinite().any()


@pytest.mark.parametrize("kappa", [1, 2])
@torch.no_grad()
def test_an_interpolation_is_symmetric_and_exact_at_its_ends(base: Path, kappa: int):
    model: Any = disturbed(around(base, kappa=kappa))
    source, mask, target_input = texts(base, 7, 4)
    other, other_mask, _ = texts(base, 5, 9)
    noise = Noise(temperature=0.5)
    a = model.sample_posterior(model.encode(source, mask), noise=noise)
    b = model.sample_posterior(model.encode(other, other_mask), noise=noise)
    assert model.interpolate(a, b, 0.0) is a
    assert model.interpolate(a, b, 1.0) is b
    ends = [decoded(model, latent, target_input) for latent in (a, b)]
    for tau in (0.3, 0.5):
        forth = decoded(model, model.interpolate(a, b, tau), target_input)
        back = decoded(model, model.interpolate(b, a, 1.0 - tau), target_input)
        torch.testing.assert_close(forth, back, rtol=1e-4, atol=1e-4)
        spoken = forth.isfinite()
        assert min(float((forth - end)[spoken].abs().amax()) for end in ends) > 0.05
        torch.testing.assert_close(
            stepped(model, model.interpolate(a, b, tau), target_input), forth, rtol=1e-3, atol=1e-4
        )
    near = decoded(model, model.interpolate(a, b, 1e-9), target_input)
    # The longer of two latents decides where the text begins: the first text of b is shorter than that of a.
    torch.testing.assert_close(near[0], ends[0][0], rtol=1e-3, atol=1e-3)
    # Of a latent with itself, nothing but the number of vectors changes.
    same = decoded(model, model.interpolate(a, a, 0.3), target_input)
    torch.testing.assert_close(same, ends[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_mixture_of_three_and_draws_are_interpolated(base: Path):
    model: Any = disturbed(around(base, reading="draws-2", kappa=2))
    latents = [model.encode(*texts(base, 4 + n)[:2]).latent for n in range(3)]
    assert all(isinstance(latent, Draws) for latent in latents)
    mixed = model.mix(latents, [1.0, 2.0, 1.0])
    weights = [own.mixture.log_pi.exp().sum(dim=-1).item() for own in mixed.latents]
    assert weights == pytest.approx([1.0, 1.0], rel=1e-5)
    assert len(generate(model, mixed, 1, START, END, 5)) == 1
    with pytest.raises(TypeError, match="must be mixtures"):
        model.interpolate(mixed, Memory(torch.zeros(1, 2, WIDTH), torch.zeros(1, 2, dtype=torch.bool)), 0.5)


@torch.no_grad()
def test_draws_are_averaged_in_probability(base: Path):
    model: Any = disturbed(around(base, reading="draws-3"))
    source, mask, target_input = texts(base, 6, 3)
    encoding, loss = model(source, mask, target_input)
    each = [decoded(model, own, target_input).softmax(dim=-1) for own in encoding.latent.latents]
    whole = [(model.decode(target_input, own) @ model.head[0].t()).softmax(dim=-1) for own in encoding.latent.latents]
    expected = -(sum(whole) / 3)[~mask].gather(1, source[~mask].unsqueeze(1)).log()
    assert loss.mean.item() == pytest.approx(expected.mean().item(), rel=1e-4)
    found = stepped(model, encoding.latent, target_input).softmax(dim=-1)
    assert (each[0] - each[1]).abs().amax() > 1e-3
    # Averaged before the forbidden tokens are left out, and after.
    kept = torch.ones(found.shape[-1], dtype=torch.bool).index_fill(0, model.unspoken, False)
    mean = (sum(whole) / 3)[..., kept]
    torch.testing.assert_close(
        found[..., kept][~mask], (mean / mean.sum(dim=-1, keepdim=True))[~mask], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("reading", ["integral", "no-prior"])
def test_readings_with_variances_are_refused(base: Path, reading: str):
    with pytest.raises(UnsupportedError, match=f"the reading {reading} means nothing"):
        around(base, reading=reading)
