"""The models: what they compute, and that generation computes the same."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

import models.loss
from models import MODELS, build
from models.annealing import anneal
from models.decoding import generate, nucleus
from models.dropout import Dropout
from models.gaussian import with_free_bits
from models.latent import Memory
from models.loss import token_loss
from models.text_model import TextModel, UnsupportedError
from models.vanilla_attention import MultiheadAttention
from nvib import DiscreteMixture

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


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_weights_that_are_shown_are_those_that_the_decoder_takes(name: str, monkeypatch):
    trained = model(name).eval()
    source, mask, target_input = sentences(7, 4)
    latent = trained.encode(source, mask).latent
    weights = trained.attention_weights(target_input, latent)
    vectors = latent.key_padding_mask.shape[1]
    assert weights.shape == (2, 2, 2, 7, vectors)  # texts, layers, heads, tokens, vectors
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 2, 7))
    assert (weights.masked_select(latent.key_padding_mask[:, None, None, None]) == 0).all()
    hidden, layer = trained.embedding(target_input), trained.decoder[0]
    torch.testing.assert_close(layer.with_weights(hidden, latent)[0], layer(hidden, latent))
    # Generation, a token at a time, weighs them so too.
    seen = []
    attend = type(layer.cross_attention).attend

    def watched(self, query, keys, need_weights=False):
        output, found = attend(self, query, keys, need_weights=True)
        seen.append(found)
        return output, found

    monkeypatch.setattr(type(layer.cross_attention), "attend", watched)
    state = trained.start(latent)
    for position in range(7):
        _, state = trained.step(target_input[:, position], position, state)
    stepwise = torch.stack([torch.cat(seen[layer::2], dim=2) for layer in range(2)], dim=1)
    torch.testing.assert_close(stepwise, weights)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_weights_average_the_values_that_attention_returns(name: str):
    attention = model(name).decoder[0].cross_attention.eval()
    memory = Memory(torch.randn(1, 5, 16), torch.tensor([[False] * 4 + [True]]))
    if not isinstance(attention, MultiheadAttention):
        memory = DiscreteMixture(memory.vectors, torch.randn(1, 5), memory.key_padding_mask)
    torch.nn.init.eye_(attention.out_proj.weight)
    keys, query = attention.prepare(memory), torch.randn(1, 3, 16)
    output, weights = attention.attend(query, keys, need_weights=True)
    values = keys.value[..., :8]
    expected = (weights @ values).transpose(1, 2).flatten(-2) + attention.out_proj.bias
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(output, attention.attend(query, keys)[0])
    assert attention.attend(query, keys)[1] is None


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


@pytest.mark.parametrize("ask", ["attention_weights", "encode", "interpolate", "log_importance_weights"])
def test_a_language_model_says_what_it_cannot_do(ask: str):
    arguments = {"encode": sentences(4)[:2], "interpolate": (None, None, 0.5), "log_importance_weights": sentences(4)}
    arguments["attention_weights"] = (sentences(4)[2], None)
    with pytest.raises(UnsupportedError, match=r"^LM "):
        getattr(model("LM"), ask)(*arguments[ask])


def test_a_vanilla_transformer_says_that_it_cannot_sample():
    with pytest.raises(UnsupportedError, match="T has no prior to sample from"):
        model("T").sample_prior(torch.tensor([3]))


VARIATIONAL = ["VTV", "VTP", "VTS"]
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
def test_a_model_without_densities_says_so(name: str):
    with pytest.raises(UnsupportedError, match=f"{name} has no known density"):
        model(name).log_importance_weights(*sentences(4))


def test_free_bits_are_those_of_a_dimension_s_mean_over_the_batch():
    by_dimension = torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    assert with_free_bits(by_dimension, 1.5).item() == pytest.approx((1.5 + 2.0) / 2)


def test_free_bits_leave_what_is_below_them_without_a_gradient():
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


def test_word_dropout_hides_words_in_training_only():
    trained = model("LM", word_dropout=0.9, dropout=0.0)
    source, _, target_input = sentences(7, 7)
    assert not torch.equal(*(trained.decode(target_input, None) for _ in range(2)))
    trained.eval()
    assert torch.equal(*(trained.decode(target_input, None) for _ in range(2)))
    hidden = torch.ones_like(target_input, dtype=torch.bool)
    assert torch.equal(
        trained.embedding(source, hidden_words=hidden), trained.embedding(target_input, hidden_words=hidden)
    )


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
    assert [anneal("constant", p, warmup=0.2) for p in (0.0, 0.19, 0.2)] == [0.0, 0.0, 1.0]
    assert anneal("monotonic", 0.2 + 0.8 * 0.125, warmup=0.2) == pytest.approx(0.5)
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
