"""The models: what they compute, and that generation computes the same."""

import pytest
import torch
import torch.nn.functional as F

import models.loss
from models import MODELS, build
from models.annealing import anneal
from models.decoding import generate, nucleus
from models.dropout import Dropout
from models.loss import token_loss
from models.text_model import TextModel, UnsupportedError

VOCABULARY, START, END = 40, 2, 3
AUTOENCODERS = [name for name, settings in MODELS.items() if settings.sees_target]


def model(name: str, **settings) -> TextModel:
    built = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16, num_heads=2, num_layers=2, **settings))
    # Embeddings as small as training starts with would make every text look the same.
    torch.nn.init.normal_(built.embedding.weight, std=0.3)
    return built


def sentences(*lengths: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    source = torch.randint(5, VOCABULARY, mask.shape).masked_fill(mask, 0)
    source[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = END
    target_input = torch.cat([torch.full((len(lengths), 1), START), source[:, :-1]], dim=1)
    return source, mask, target_input


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_generation_with_kept_keys_is_decoding_the_whole_prefix_again(name: str):
    trained = model(name).eval()
    source, mask, _ = sentences(7, 4, 6)
    kept = generate(trained, trained.encode(source, mask).latent, 3, START, END, max_tokens=15)
    for row in range(3):
        real = ~mask[row]
        latent = trained.encode(source[row : row + 1, real], mask[row : row + 1, real]).latent
        tokens = [START]
        while len(tokens) <= 15:
            logits = trained.output(trained.decode(torch.tensor([tokens]), latent)[0, -1])
            if logits.argmax() == END:
                break
            tokens.append(logits.argmax().item())
        assert kept[row] == tokens[1:16]


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_sentence_that_has_ended_leaves_the_others_as_they_were(name: str):
    trained = model(name).eval()
    source, mask, _ = sentences(7, 4, 6, 5)
    together = generate(trained, trained.encode(source, mask).latent, 4, START, END, max_tokens=12)
    # A token that some sentences produce on their way is made the end token, so that they stop there.
    end = next(text[2] for text in together if len(text) > 2)
    stopped = generate(trained, trained.encode(source, mask).latent, 4, START, end, max_tokens=12)
    for before, after in zip(together, stopped, strict=True):
        assert end not in after
        expected = before[: before.index(end)] if end in before else before
        assert after[: len(expected)] == expected  # where the usual end token came first, it now goes on
        assert end not in before or after == expected


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_neither_latent_nor_loss(name: str):
    trained = model(name).eval()
    source, mask, target_input = sentences(7, 4)
    _, together = trained(source, mask, target_input)
    alone = [
        trained(source[i : i + 1, :n], mask[i : i + 1, :n], target_input[i : i + 1, :n])[1].each
        for i, n in enumerate((7, 4))
    ]
    torch.testing.assert_close(together.each, torch.cat(alone))


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_decoder_sees_no_token_before_it_is_predicted(name: str):
    trained = model(name).eval()
    source, mask, target_input = sentences(7, 7)
    latent = trained.encode(source, mask).latent
    changed = target_input.clone()
    changed[:, 4:] = 9
    torch.testing.assert_close(trained.decode(changed, latent)[:, :4], trained.decode(target_input, latent)[:, :4])


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_decoder_uses_the_latent(name: str):
    trained = model(name).eval()
    source, mask, target_input = sentences(7, 7)
    latents = [trained.encode(s, mask).latent for s in (source, source.flip(0))]
    decoded = [trained.decode(target_input, latent) for latent in latents]
    assert (decoded[0] - decoded[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_interpolation_is_exact_at_the_ends_and_decodes_between(name: str):
    trained = model(name).eval()
    (a, mask_a, _), (b, mask_b, _) = sentences(7, 4), sentences(3, 9)
    ends = trained.encode(a, mask_a).latent, trained.encode(b, mask_b).latent
    for tau, end in zip((0.0, 1.0), ends, strict=True):
        expected = generate(trained, end, 2, START, END, 10)
        assert generate(trained, trained.interpolate(*ends, tau), 2, START, END, 10) == expected
    assert len(generate(trained, trained.interpolate(*ends, 0.5), 2, START, END, 10)) == 2


def test_a_language_model_sees_only_what_stands_before_its_target():
    trained = model("LM").eval()
    source, mask, target_input = sentences(7, 7)
    encoding, loss = trained(source, mask, target_input)
    assert encoding is None
    assert trained.penalty(encoding, progress=1.0) == 0
    changed = source.clone()
    changed[:, 4:] = 9
    after = trained(changed, mask, torch.cat([target_input[:, :1], changed[:, :-1]], dim=1))[1]
    torch.testing.assert_close(after.each.view(2, 7)[:, :4], loss.each.view(2, 7)[:, :4])
    assert not torch.allclose(after.each.view(2, 7)[:, 5:], loss.each.view(2, 7)[:, 5:])


def test_a_language_model_generates_what_it_predicts():
    trained = model("LM").eval()
    draws = generate(trained, trained.sample_prior(torch.tensor([5, 8])), 2, START, END, max_tokens=9)
    tokens = [START]
    while len(tokens) <= 9:
        following = trained.output(trained.decode(torch.tensor([tokens]), None)[0, -1]).argmax().item()
        if following == END:
            break
        tokens.append(following)
    assert draws == [tokens[1:], tokens[1:]]


@pytest.mark.parametrize("ask", ["encode", "interpolate", "log_importance_weights"])
def test_a_language_model_says_what_it_cannot_do(ask: str):
    arguments = {"encode": sentences(4)[:2], "interpolate": (None, None, 0.5), "log_importance_weights": sentences(4)}
    with pytest.raises(UnsupportedError, match="^LM "):
        getattr(model("LM"), ask)(*arguments[ask])


def test_a_vanilla_transformer_says_that_it_cannot_sample():
    with pytest.raises(UnsupportedError, match="T has no prior to sample from"):
        model("T").sample_prior(torch.tensor([3]))


def test_the_nvae_samples_and_regularises():
    nvae = model("NVIB", kl_gaussian_lambda=0.5, kl_dirichlet_lambda=2.0, delta=0.3)
    source, mask, target_input = sentences(7, 4)
    encoding, _ = nvae(source, mask, target_input)
    expected = 0.5 * encoding.kl_gaussian.mean() + 2.0 * encoding.kl_dirichlet.mean()
    torch.testing.assert_close(nvae.penalty(encoding, progress=1.0), expected)
    assert encoding.vectors.tolist() == [8, 5]
    texts = generate(nvae.eval(), nvae.sample_prior(torch.tensor([4, 9])), 2, START, END, 10)
    assert len(texts) == 2


def test_annealing_weakens_the_regulariser_only_where_it_should():
    cyclic = model("NVIB", kl_annealing_gaussian="cyclic", kl_annealing_dirichlet="monotonic")
    encoding = cyclic.encode(*sentences(5, 5)[:2])
    assert cyclic.penalty(encoding, 0.0) == 0
    assert cyclic.penalty(encoding, 0.9) > 0


def test_schedules_are_those_of_the_method():
    assert [anneal("constant", p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]
    assert anneal("monotonic", 0.0) == 0.0
    assert anneal("monotonic", 0.125) == pytest.approx(0.5)
    assert [anneal("monotonic", p) for p in (0.25, 0.7, 1.0)] == [1.0, 1.0, 1.0]
    for cycle in range(4):
        start = cycle / 4
        assert anneal("cyclic", start) == pytest.approx(0.0)
        assert anneal("cyclic", start + 1 / 16) == pytest.approx(0.5)
        assert anneal("cyclic", start + 1 / 8) == anneal("cyclic", start + 0.2) == pytest.approx(1.0)
    assert anneal("cyclic", 1.0) == 1.0
    with pytest.raises(ValueError, match="must be one of constant, monotonic, cyclic, got 'linear'"):
        anneal("linear", 0.5)


@pytest.mark.parametrize("chunk", [7, 64])
def test_the_chunked_loss_is_the_plain_one_and_so_is_its_gradient(chunk: int, monkeypatch):
    monkeypatch.setitem(models.loss.CHUNK, "cpu", chunk)
    inputs = [torch.randn(30, 16), torch.randn(VOCABULARY, 16), torch.randn(VOCABULARY)]
    target = torch.randint(0, VOCABULARY, (30,))
    for tensor in inputs:
        tensor.requires_grad_()
    loss = token_loss(*inputs, target)
    plain = F.cross_entropy(F.linear(*inputs), target)
    torch.testing.assert_close(loss.mean, plain, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.each, F.cross_entropy(F.linear(*inputs), target, reduction="none"))
    for own, expected in zip(
        torch.autograd.grad(3 * loss.mean, inputs), torch.autograd.grad(3 * plain, inputs), strict=True
    ):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_the_loss_of_impossible_tokens_is_large_and_finite():
    hidden, weight = torch.tensor([[200.0]]), torch.tensor([[1.0], [-1.0]])
    loss = token_loss(hidden, weight, torch.zeros(2), torch.tensor([1]))
    assert loss.mean.item() == pytest.approx(400.0)


def test_dropout_drops_the_share_it_should_and_keeps_the_mean():
    dropout, ones = Dropout(0.1), torch.ones(1000, 1001)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.002)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.002)
    assert torch.equal(dropout.eval()(ones), ones)
    assert not torch.equal(dropout.train()(ones), dropped)


def test_nucleus_sampling_keeps_to_the_smallest_likely_set():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(5000, 4)
    drawn = nucleus(top_p=0.75)(logits)
    assert set(drawn.tolist()) == {0, 1}
    assert (drawn == 0).float().mean().item() == pytest.approx(0.5 / 0.8, abs=0.03)
    assert set(nucleus(top_p=1e-6)(logits).tolist()) == {0}
    cold = nucleus(temperature=0.01)(logits)
    assert set(cold.tolist()) == {0}
    first, second = (nucleus(generator=torch.Generator().manual_seed(1))(logits) for _ in range(2))
    assert torch.equal(first, second)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="DIM_H must be a multiple of NUM_HEADS, got 16 and 3"):
        MODELS["T"](vocabulary_size=10, dim_h=16, num_heads=3)
