"""Text models: decoding in training equals decoding in generation, and padding has no effect."""

import pytest
import torch

from models import MODELS
from models.decoding import generate
from models.latent import Memory
from models.text_model import UnsupportedError
from models.vanilla_attention import MultiheadAttention
from nvib import DiscreteMixture
from tests.models.tiny_models import AUTOENCODERS, END, START, model, sentences


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
    # The end token becomes a token that some sentences contain, so that they end there.
    end = next(text[2] for text in together if len(text) > 2)
    stopped = generate(trained, trained.encode(source, mask).latent, 4, START, end, max_tokens=12)
    for before, after in zip(together, stopped, strict=True):
        assert end not in after
        expected = before[: before.index(end)] if end in before else before
        assert after[: len(expected)] == expected  # a sentence that ended at the usual end token now continues
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
def test_shown_weights_are_those_of_the_decoder(name: str, monkeypatch):
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
    # Generation, one token at a time, has the same weights.
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


def test_a_language_model_sees_only_earlier_tokens():
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
def test_a_language_model_refuses_unsupported_operations(ask: str):
    arguments = {"encode": sentences(4)[:2], "interpolate": (None, None, 0.5), "log_importance_weights": sentences(4)}
    arguments["attention_weights"] = (sentences(4)[2], None)
    with pytest.raises(UnsupportedError, match=r"^LM "):
        getattr(model("LM"), ask)(*arguments[ask])


def test_a_vanilla_transformer_has_no_prior_to_sample_from():
    with pytest.raises(UnsupportedError, match="T has no prior to sample from"):
        model("T").sample_prior(torch.tensor([3]))


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


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="DIM_H must be a multiple of NUM_HEADS, got 16 and 3"):
        MODELS["T"](vocabulary_size=10, dim_h=16, num_heads=3)
