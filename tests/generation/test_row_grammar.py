"""Rows under the grammar of a table: every sample is a row, and conditions leave the model's distribution intact."""

import itertools
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from models import MODELS, build
from models.decoding import Decoding, generate, greedy, nucleus
from models.text_model import TextModel
from pipeline.data.conditions import parse_where
from pipeline.data.constraints import Constraints
from pipeline.data.row_conditions import permitted
from pipeline.data.row_template import RowTemplate
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.generation.balance import Balance
from pipeline.generation.row_grammar import RowGrammar, resampled
from pipeline.generation.row_samples import ROUNDS, RowDraws, drawn_again
from pipeline.runtime.errors import UserError

COLUMNS: dict[str, Any] = {
    "sex": {"kind": "category", "values": ["", "F", "M"]},
    "size": {"kind": "integer", "low": 0, "high": 21, "format": {"decimals": [0, 0], "marks": ["none"]}},
    "note": {"kind": "text"},
}
TEXTS = [
    f"sex is {'FM'[number % 2] if number % 7 else ''}, size is {number % 22}, note is {'good' if number % 3 else ''}"
    for number in range(66)
]


@pytest.fixture(scope="module")
def tokenizer() -> RowTokenizer:
    """Tokenizer of three columns, one of each kind."""
    template = RowTemplate(None, list(COLUMNS), "the table")
    return RowTokenizer.train(lambda: iter(TEXTS), template, COLUMNS, 262)


@pytest.fixture(scope="module")
def model(tokenizer: RowTokenizer) -> TextModel:
    """Language model with random weights whose logits differ clearly."""
    torch.manual_seed(3)
    size: dict[str, Any] = {"vocabulary_size": tokenizer.vocabulary_size, "dim_h": 16, "num_heads": 2, "num_layers": 1}
    built = build(MODELS["LM"](**size, dropout=0.0))
    torch.nn.init.normal_(built.get_parameter("embedding.weight"), std=0.5)
    torch.nn.init.normal_(built.get_parameter("output.weight"), std=0.4)
    return built.eval()


def drawn(model: TextModel, tokenizer: RowTokenizer, constraint: Any, count: int, choose: Any = greedy) -> list[str]:
    """Generate texts under a constraint."""
    ids = generate(model, None, count, tokenizer.cls_id, tokenizer.sep_id, 500, choose, constraint=constraint)
    assert all(sorted(marker for marker, _ in tokenizer.parts(row)) == markers(tokenizer) for row in ids)
    return tokenizer.decode_batch(ids)


def markers(tokenizer: RowTokenizer) -> list[int]:
    """Return the ids of all columns."""
    return sorted(field.marker for field in tokenizer.fields.values())


@pytest.mark.parametrize("ordered", [True, False])
def test_every_text_of_an_untrained_model_is_a_row(tokenizer: RowTokenizer, model: TextModel, ordered: bool):
    grammar = RowGrammar(tokenizer)
    constraint = grammar.ordered(range(40), [()] * 40, 1) if ordered else grammar.unordered(40)
    for text in drawn(model, tokenizer, constraint, 40, nucleus(generator=torch.Generator().manual_seed(1))):
        values = tokenizer.template.values(text)
        assert values is not None
        assert values["sex"] in ("", "F", "M")
        assert 0 <= int(values["size"]) <= 21
        assert len(values["note"]) <= 4


def test_the_order_of_columns_differs_by_row_and_not_by_call(tokenizer: RowTokenizer, model: TextModel):
    grammar = RowGrammar(tokenizer)
    ends = tokenizer.cls_id, tokenizer.sep_id
    constraints = (grammar.ordered(range(30), [()] * 30, 1) for _ in range(2))
    first, again = (generate(model, None, 30, *ends, 99, constraint=constraint) for constraint in constraints)
    assert first == again
    assert len({tuple(marker for marker, _ in tokenizer.parts(row)) for row in first}) == 6


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_conditions_draw_from_the_models_conditional_distribution(
    tokenizer: RowTokenizer, model: TextModel, temperature: float
):
    """Frequencies of two conditioned columns agree with an enumeration of all their values."""
    conditions = parse_where("size > 8 and sex != M and sex is not missing", COLUMNS)
    conditions = {name: conditions[name] for name in ("size", "sex")}
    chosen = {name: permitted(one, tokenizer.fields[name].code, COLUMNS[name]) for name, one in conditions.items()}
    draws = RowDraws(RowGrammar(tokenizer, chosen), 1, conditions, cast(Any, None))
    experiment = cast(Any, SimpleNamespace(model=model, device=torch.device("cpu")))
    count, sampling = 2000, Decoding("sample", temperature)
    generator = torch.Generator().manual_seed(5)
    latent, constraint = draws.begin(experiment, None, range(count), None, sampling, generator)
    assert latent is None
    assert len(constraint) == count
    texts = drawn(model, tokenizer, constraint, count, nucleus(temperature, generator=generator))
    rows = map(tokenizer.template.values, texts)
    found = Counter((values["size"], values["sex"]) for values in rows if values is not None)
    assert found.total() == count
    pairs = {(str(size), "F"): [("size", str(size)), ("sex", "F")] for size in range(9, 22)}
    expected = {pair: probability(model, tokenizer, values, temperature) for pair, values in pairs.items()}
    total = sum(expected.values())
    assert set(found) <= set(expected)
    distance = sum(abs(found[pair] / count - share / total) for pair, share in expected.items()) / 2
    assert distance < 0.06
    # Cutting off digits one by one, without weights, is clearly another distribution.
    assert cut_off(model, tokenizer) > 0.12


def probability(
    model: TextModel, tokenizer: RowTokenizer, values: list[tuple[str, str]], temperature: float = 1.0
) -> float:
    """Return the probability of values under the model, given their columns, over what the columns may hold."""
    fields = tokenizer.fields
    ids, log_p = [tokenizer.cls_id], 0.0
    for name, value in values:
        ids.append(fields[name].marker)
        tokens = fields[name].code.encode(value)
        assert tokens is not None
        for place, token in enumerate(tokens):
            possible = [fields[name].to_id(one) for one in fields[name].code.allowed(tokens[:place])]
            logits = next_logits(model, ids) / temperature
            index = fields[name].to_id(token)
            log_p += float(logits[index] - logits[possible].logsumexp(0))
            ids.append(index)
    return float(torch.tensor(log_p).exp())


def next_logits(model: TextModel, ids: list[int]) -> torch.Tensor:
    """Return the logits behind some tokens."""
    with torch.inference_mode():
        weight, bias = model.head
        return (model.decode(torch.tensor([ids]), None)[0, -1] @ weight.T + bias).double()


def cut_off(model: TextModel, tokenizer: RowTokenizer) -> float:
    """Distance between the distributions of sizes above 8 with and without the weights."""
    field = tokenizer.fields["size"]
    whole = {size: probability(model, tokenizer, [("size", str(size)), ("sex", "F")]) for size in range(22)}
    code, naive = field.code, dict[int, float]()
    above = permitted(parse_where("size > 8", COLUMNS)["size"], code, COLUMNS["size"])
    for size in range(9, 22):
        tokens = code.encode(str(size)) or []
        share, ids = 1.0, [tokenizer.cls_id, field.marker]
        for place, token in enumerate(tokens):
            logits = next_logits(model, ids)
            allowed = [field.to_id(one) for one in code.allowed(tokens[:place], above)]
            share *= float((logits[field.to_id(token)] - logits[allowed].logsumexp(0)).exp())
            ids.append(field.to_id(token))
        naive[size] = share
    total = sum(whole[size] for size in naive)
    return sum(abs(naive[size] - whole[size] / total) for size in naive) / 2


def test_groups_keep_their_numbers_of_rows_and_draw_from_the_conditional_distribution(
    tokenizer: RowTokenizer, model: TextModel
):
    """Each group's sizes above 8 have the frequencies of an enumeration given the group's sex."""
    conditions = parse_where("size > 8", COLUMNS)
    chosen = {"size": permitted(conditions["size"], tokenizer.fields["size"].code, COLUMNS["size"])}
    code, members = tokenizer.fields["sex"].code, ("F", "M")
    groups = [{"sex": tuple(code.encode(member) or ())} for member in members]
    order, count = [number % 5 != 0 for number in range(2000)], 2000
    balance = Balance("sex", (("F",), ("M",)), tuple(map(int, order)))
    draws = RowDraws(RowGrammar(tokenizer, chosen, groups=groups), 1, conditions, cast(Any, None), balance=balance)
    experiment = cast(Any, SimpleNamespace(model=model, device=torch.device("cpu")))
    generator = torch.Generator().manual_seed(5)
    _, constraint = draws.begin(experiment, None, range(count), None, Decoding("sample"), generator)
    texts = drawn(model, tokenizer, constraint, count, nucleus(generator=generator))
    rows = [tokenizer.template.values(text) or {} for text in texts]
    assert [row["sex"] == "M" for row in rows] == order
    for member in members:
        found = Counter(row["size"] for row in rows if row["sex"] == member)
        expected = {
            str(size): probability(model, tokenizer, [("sex", member), ("size", str(size))]) for size in range(9, 22)
        }
        total = sum(expected.values())
        distance = sum(abs(found[size] / found.total() - share / total) for size, share in expected.items()) / 2
        assert set(found) <= set(expected)
        assert distance < (0.06 if member == "M" else 0.12), member


def test_balanced_rows_have_their_labels_given_the_member():
    """A model whose label decides the sex gives each member its own label alone, beside marginal ones of one half."""
    template = RowTemplate(None, list(COLUMNS), "the table")
    tokenizer = RowTokenizer.train(lambda: iter(TEXTS), template, COLUMNS, 262)
    tokenizer.add_labels(["men", "women"])
    field, members = tokenizer.fields["sex"], ("F", "M")
    tokens = {one: field.to_id((field.code.encode(one) or [])[0]) for one in members}
    sexes = {tokenizer.labels[label]: tokens[one] for label, one in zip(("women", "men"), members, strict=True)}
    groups = [{"sex": tuple(field.code.encode(one) or ())} for one in members]
    balance = Balance("sex", (("F",), ("M",)), (0, 1) * 50)
    draws = RowDraws(RowGrammar(tokenizer, groups=groups), 1, {}, cast(Any, None), balance=balance)
    labels, generator = ["women"] * 50 + ["men"] * 50, torch.Generator().manual_seed(5)
    experiment = cast(Any, SimpleNamespace(device=torch.device("cpu")))
    _, constraint = draws.begin(experiment, None, range(100), labels, Decoding("sample"), generator)
    numbers = list(range(len(constraint)))
    drawn: list[list[int]] = [[] for _ in numbers]
    while (chosen := constraint.chosen()) is None and len(drawn[0]) < 3:  # the label, the column, its value
        logits = torch.zeros(len(numbers), tokenizer.vocabulary_size)
        for number, ids in enumerate(drawn):
            if ids:
                logits[number, [token for label, token in sexes.items() if label != ids[0]]] = -99.0
        next_tokens = greedy(constraint.apply(numbers, logits)).tolist()
        constraint.advance(numbers, next_tokens)
        drawn = [[*ids, token] for ids, token in zip(drawn, next_tokens, strict=True)]
    rows = [drawn[number] for number in chosen or numbers]
    assert [row[2] for row in rows] == [tokens["F"], tokens["M"]] * 50
    assert all(sexes[row[0]] == row[2] for row in rows)
    assert [tokenizer.labels[labels[origin]] for origin in constraint.origins] == [row[0] for row in rows]


def test_a_word_for_a_missing_value_is_drawn_as_a_whole(tokenizer: RowTokenizer):
    """The first token that no such word has says that the text has a value, and ends it."""
    field = tokenizer.fields["note"]
    grammar = RowGrammar(tokenizer, made={"note": lambda _: []}, perhaps={"note": ["", "NA"]})
    first, second, end = field.code.encode("NA") or []
    for drawn, follows in (([first], {second, end}), ([first, second], {second, end}), ([second], {end})):
        constraint = grammar.ordered([0], [[field.marker]], 1)
        for token in (field.marker, *map(field.to_id, drawn)):
            constraint.advance([0], [token])
        allowed = constraint.apply([0], torch.zeros(1, tokenizer.vocabulary_size))[0].isfinite()
        possible = {token for token in (first, second, end) if allowed[field.to_id(token)]}
        assert possible == (follows if follows == {end} else {first, *follows}), drawn


def test_a_free_order_lets_any_column_come_first(tokenizer: RowTokenizer):
    grammar = RowGrammar(tokenizer)
    logits = torch.zeros(1, tokenizer.vocabulary_size)
    markers = {field.marker for field in tokenizer.fields.values()}
    for free, count in ((True, len(markers)), (False, 1)):
        first = grammar.ordered([0], [[]], 1, free=free).apply([0], logits)[0].isfinite().nonzero().flatten().tolist()
        assert set(first) <= markers and len(first) == count


def test_resampling_is_in_proportion_to_the_weights():
    weights = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().tolist()
    assert Counter(resampled(weights, 8, 0.5)) == {0: 4, 1: 2, 2: 1, 3: 1}
    assert resampled([0.0, -1e9], 3, 0.99) == [0, 0, 0]


@pytest.mark.parametrize(("conditions", "message"), [({"note": None}, "1 of 2 samples are no rows"), ({}, "")])
def test_samples_that_break_a_condition_to_the_end_are_an_error(conditions: Any, message: str):
    grammar = SimpleNamespace(tokenizer=SimpleNamespace(template=None), perhaps=())
    of_rows = {"conditions": conditions, "asked": None, "incomplete": None, "constraints": Constraints(), "makers": {}}
    draws = cast(Any, SimpleNamespace(grammar=grammar, checked=lambda *_: [1], **of_rows))
    rounds: list[int] = []

    def draw(numbers: list[int], attempt: int) -> list[dict[str, Any]]:
        rounds.append(attempt)
        return [{"text": "x"} for _ in numbers]

    rows = [{"text": "a"}, {"text": "b"}]
    if message:
        with pytest.raises(UserError, match=message):
            drawn_again(rows, draws, range(2), draw)
    else:  # without conditions, what is no row is left out and counted
        assert drawn_again(rows, draws, range(2), draw) == [{"text": "a"}, {"text": "x"}]
    assert rounds == list(range(1, ROUNDS + 1))


def test_shuffled_columns_are_the_same_row(tokenizer: RowTokenizer):
    for text in TEXTS[:20]:
        (ids,) = tokenizer.encode([text])
        orders = set()
        for seed in range(30):
            mixed = tokenizer.shuffled(ids, random.Random(seed))
            assert tokenizer.decode(mixed) == text
            assert (mixed[0], mixed[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            orders.add(tuple(marker for marker, _ in tokenizer.parts(mixed)))
        assert len(orders) == len(list(itertools.permutations(markers(tokenizer))))


def test_a_value_that_a_column_cannot_have_is_unknown(tokenizer: RowTokenizer):
    (ids,) = tokenizer.encode(["sex is X, size is 3, note is "])
    assert tokenizer.unk_id in ids
    (ids,) = tokenizer.encode(["something else"])
    assert ids == [tokenizer.cls_id, tokenizer.unk_id, tokenizer.sep_id]
