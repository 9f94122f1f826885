"""Latents: the number of texts, the selection of texts, and the latents that a model refuses."""

import pytest
import torch

from models.decoding import generate
from models.latent import Memory
from models.text_model import Noise
from tests.models.tiny_models import AUTOENCODERS, END, START, model, sentences

ROWS = torch.tensor([2, 0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_selected_latents_are_those_of_the_selected_texts(name: str, training: bool):
    trained = model(name).train(training)
    latent = trained.encode(*sentences(7, 4, 6)[:2]).latent
    selected = latent.select(ROWS)
    assert (len(latent), len(selected)) == (3, 2)
    assert torch.equal(selected.key_padding_mask, latent.key_padding_mask[ROWS])
    texts = generate(trained.eval(), latent, 3, START, END, 10)
    assert generate(trained, selected, 2, START, END, 10) == [texts[2], texts[0]]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", [name for name in AUTOENCODERS if name != "T"])
def test_drawn_latents_have_one_row_for_each_text(name: str, temperature: float):
    trained, noise = model(name).eval(), Noise(temperature)
    encoding = trained.encode(*sentences(7, 4, 6)[:2])
    for latent in (
        trained.sample_prior(torch.tensor([7, 4, 6]), noise=noise),
        trained.sample_posterior(encoding, noise=noise),
        trained.mix([encoding.latent, encoding.latent], [1.0, 2.0]),
    ):
        assert latent is not None
        assert len(latent) == len(latent.key_padding_mask) == 3


def test_a_language_model_has_no_latent():
    assert model("LM").sample_prior(torch.tensor([5, 8])) is None


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_latent_of_another_model_is_refused(name: str):
    source, mask, _ = sentences(7, 4)
    own, other = (model(n).eval().encode(source, mask).latent for n in (name, "T" if name == "NVIB" else "NVIB"))
    for tau in (0.0, 0.5, 1.0):
        with pytest.raises(TypeError, match=f"got {type(own).__name__} and {type(other).__name__}"):
            model(name).interpolate(own, other, tau)


@pytest.mark.parametrize("name", ["VTV", "VTP", "VTS", "NVIB"])
def test_an_encoding_of_another_model_is_refused(name: str):
    encoding = model("T").encode(*sentences(7, 4)[:2])
    with pytest.raises(ValueError, match="another model made it"):
        model(name).penalty(encoding, progress=1.0)
    with pytest.raises(ValueError, match="another model made it"):
        model(name).sample_posterior(encoding)
    with pytest.raises(ValueError, match="the encoding has no latent"):
        model(name).penalty(None, progress=1.0)


def test_interpolation_by_position_pads_the_shorter_memory_with_zeros():
    long, short = (
        Memory(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)),
        Memory(torch.ones(1, 1, 2), torch.zeros(1, 1, dtype=torch.bool)),
    )
    between = model("T").interpolate(long, short, 0.25)
    assert isinstance(between, Memory)
    assert between.vectors[0, :, 0].tolist() == [1.0, 0.75, 0.75]
    assert not between.key_padding_mask.any()
