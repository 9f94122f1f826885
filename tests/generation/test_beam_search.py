"""Beam search against an exhaustive search, and lengths of generated texts."""

import itertools
import math
from typing import Any

import pytest
import torch

from models import MODELS
from models.decoding import GREEDY, Decoding, beam_search, generate
from models.text_model import TextModel
from tests.generation.untrained import END, START, VOCABULARY, model, texts


def latent_of(trained: TextModel, name: str) -> Any:
    return None if name == "LM" else trained.encode(*texts(7, 4, 6)).latent


def best_of_all(trained: TextModel, latent: Any, row: int, most: int, least: int, penalty: float) -> list[int]:
    """Text with the highest score of all possible texts, each decoded as a whole."""
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
    """The order of the beams changes with every token, and texts end at different tokens."""
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
def test_texts_keep_to_the_smallest_and_largest_number_of_tokens(decoding: Decoding):
    lengths = set()
    for end_bias in (-3.0, 0.0, 3.0):  # from a model that hardly ends to one that ends at once
        trained = model("NVIB")
        with torch.no_grad():
            trained.output.bias[END] += end_bias
        latent = trained.sample_prior(torch.full((40,), 6))
        lengths |= {len(text) for text in decoding(trained, latent, 40, START, END, 7, 4)}
    assert {4, 7} <= lengths <= {4, 5, 6, 7}
    assert decoding(trained, latent, 40, START, END, 0) == [[]] * 40
