"""Training around a pretrained model: which weights are trained and stored, labels, dropout and recomputation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.decoding import beam_search, generate, nucleus
from models.settings import LanguageModelSettings
from tests.models.tiny_bases import (
    END,
    FAMILIES,
    START,
    around,
    decoded,
    disturbed,
    rows,
    save_base,
    texts,
)

pytestmark = pytest.mark.slow  # together eight seconds

KINDS = ("NVIB", "LM")
TRAINED = [("NVIB", "lora"), ("NVIB", "all"), ("NVIB", "bottleneck"), ("LM", "lora"), ("LM", "all")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base of each family."""
    return {family: save_base(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture
def base(bases: dict[str, Path]) -> Path:
    """A tiny Llama."""
    return bases["llama"]


def step(model: Any, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], optimizer: Any = None) -> float:
    """Compute gradients, and take an optimizer step if there is an optimizer."""
    model.train()
    encoding, loss = model(*batch)
    (loss.mean + model.penalty(encoding, 1.0)).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()
    return loss.mean.item()


def optimizer_of(model: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=3e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "train"), TRAINED)
def test_stored_weights_are_the_trained_ones_and_restore_the_model(
    bases: dict[str, Path], family: str, name: str, train: str
):
    folder = bases[family]
    model: Any = around(folder, name, labels=2, train=train)
    batch = texts(folder, 6, 4)
    frozen = {key: value.clone() for key, value in model.named_parameters() if not value.requires_grad}
    optimizer = optimizer_of(model)
    before = step(model, batch, optimizer)
    for _ in range(3):
        step(model, batch, optimizer)
    assert step(model.eval(), batch) < before
    for key, value in model.named_parameters():
        if key in frozen:
            assert torch.equal(value, frozen[key]), key
    stored = {key: value.clone() for key, value in model.state_dict().items()}
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert trained <= stored.keys()
    # The settings name the others by the hash of the base.
    assert not any(key.startswith(("backbone", "separate_head")) for key in stored.keys() - trained)
    assert bool(frozen) == (train != "all")
    other: Any = around(folder, name, labels=2, train=train)
    other.load_state_dict(stored, strict=True)
    with torch.no_grad():
        made = [
            decoded(m.eval(), m.encode(*batch[:2]).latent if name == "NVIB" else None, batch[2]) for m in (model, other)
        ]
    assert torch.equal(*made)
    stored.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(stored, strict=True)


@pytest.mark.parametrize("train", ["lora", "bottleneck"])
def test_the_base_itself_has_no_gradient(base: Path, train: str):
    model: Any = around(base, train=train)
    step(model, texts(base, 5))
    with_gradient = {name for name, value in model.named_parameters() if value.grad is not None}
    assert with_gradient == {name for name, value in model.named_parameters() if value.requires_grad}
    adapters = {name for name in with_gradient if name.startswith("backbone")}
    assert all(".lora_" in name for name in adapters)
    assert bool(adapters) == (train == "lora")


def test_a_language_model_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="leaves --MODEL LM without a weight to train"):
        LanguageModelSettings(vocabulary_size=9, pretrained="base", train="bottleneck")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_with_a_label_is_trained_and_generated(bases: dict[str, Path], family: str, name: str):
    """A label is a token behind the rows of the embedding, the first one of its text."""
    folder = bases[family]
    model: Any = around(folder, name, labels=2)
    source, mask, target_input = texts(folder, 4, 4, 4, 4)
    source[:, 0] = target_input[:, 1] = rows(folder) + torch.tensor([0, 1, 0, 1])
    source[:, 1] = target_input[:, 2] = 20 + 5 * torch.tensor([0, 1, 0, 1])  # what follows the label
    before, optimizer = model.more.detach().clone(), optimizer_of(model)
    learns = name == "LM" and family == "llama"  # long enough to tell the labels apart
    for _ in range(100 if learns else 2):
        step(model, (source, mask, target_input), optimizer)
    assert not torch.equal(model.more, before)
    model.eval()
    latent = model.sample_prior(torch.tensor([5, 5]))
    first = rows(folder) + torch.tensor([0, 1])
    made = generate(model, latent, 2, START, END, 4, first=first)
    assert [ids[0] for ids in made] == first.tolist()
    if learns:
        assert [ids[1] for ids in made] == [20, 25]


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_other_than_the_end_never_come_out(base: Path, name: str):
    """Also those of a chat, and rows of the embedding without a token."""
    model: Any = disturbed(around(base, name), 0.5)
    with torch.no_grad():
        model.head[0][[0, START, 3, rows(base) - 1]] *= 40.0  # the likeliest tokens of all
    latent = model.sample_prior(torch.full((40,), 6))
    made = generate(model, latent, 40, START, END, 12, nucleus(temperature=3.0))
    found = {token for ids in made for token in ids}
    assert len(found) > 20
    assert not found & {0, START, 3, *range(rows(base) - 6, rows(base))}
    _, logits_state = [], model.start(None if latent is None else latent.select(torch.arange(1)))
    logits, _ = model.step(torch.tensor([START]), 0, logits_state)
    assert logits[0, END].isfinite()
    assert logits[0, [0, START, 3, rows(base) - 1]].tolist() == [-torch.inf] * 4


@pytest.mark.parametrize("name", KINDS)
def test_beams_find_at_least_the_probability_of_greedy_decoding(base: Path, name: str):
    model: Any = disturbed(around(base, name))
    latent = model.sample_prior(torch.tensor([6, 3, 8]))
    greedy = generate(model, latent, 3, START, END, 6, min_tokens=6)
    beams = beam_search(model, latent, 3, START, END, 6, beams=4, min_tokens=6)

    def log_probability(row: int, ids: list[int]) -> float:
        own = None if latent is None else latent.select(torch.tensor([row]))
        with torch.no_grad():
            logits = decoded(model, own, torch.tensor([[START, *ids]]))[0].log_softmax(dim=-1)
        return sum(float(logits[at, token]) for at, token in enumerate([*ids, END]) if at < 6)

    for row in range(3):
        assert len(beams[row]) == 6
        assert log_probability(row, beams[row]) >= log_probability(row, greedy[row]) - 1e-3


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_activations_give_the_same_gradients(bases: dict[str, Path], family: str, name: str):
    batch, gradients = texts(bases[family], 7, 5), []
    for recompute in (False, True):
        model: Any = disturbed(around(bases[family], name))
        model.recompute = recompute
        torch.manual_seed(3)
        step(model, batch)
        assert model.backbone.is_activation_checkpointing == recompute
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.requires_grad})
        model.eval()
        assert generate(model, model.sample_prior(torch.tensor([4])), 1, START, END, 3)
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value)


@pytest.mark.parametrize("name", KINDS)
def test_word_dropout_hides_the_decoders_input_in_training_alone(base: Path, name: str):
    _, _, target_input = texts(base, 40)
    model: Any = around(base, name, word_dropout=0.5)
    latent = model.sample_prior(torch.tensor([4]))

    def own() -> torch.Tensor:
        return model.inputs(target_input, latent)["inputs_embeds"][0, -40:]

    plain = own()
    model.train()
    hidden = (own() == 0).all(dim=1)
    assert 8 <= int(hidden.sum()) <= 32
    assert not torch.equal((own() == 0).all(dim=1), hidden)  # drawn anew
    kept = own()
    shown = ~(kept == 0).all(dim=1)
    assert torch.equal(kept[shown], plain[shown])
    model.eval()
    assert torch.equal(own(), plain)


def test_dropout_of_the_settings_reaches_the_base(bases: dict[str, Path]):
    for family in FAMILIES:
        for dropout in (0.0, 0.4):
            model: Any = around(bases[family], "LM", dropout=dropout).train()
            target_input = texts(bases[family], 12)[2]
            torch.manual_seed(0)
            first = model.decode(target_input, None)
            assert torch.equal(first, model.decode(target_input, None)) == (dropout == 0.0), family
