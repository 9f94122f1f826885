"""Rows balanced over the members of a column: as many of each, in an order that the seed decides."""

from collections import Counter

import pytest

from pipeline.data.conditions import parse_where
from pipeline.data.dataset import PreparedData
from pipeline.generation.balance import Balance
from pipeline.runtime.errors import UserError
from tests.data.own_files import prepared_table, write_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Prepared rows of columns of each kind, one of which has words for missing values beside empty ones."""
    rows = [
        {
            "kind": ("common", "common", "common", "rare", "", "NA")[number % 6],
            "paid": number % 3 == 0,
            "fraud": int(number % 9 == 0),
            "note": f"remark {number} about {'x' * number}",
            "group": ("one", "two")[number % 2],
        }
        for number in range(120)
    ]
    path = write_rows(tmp_path_factory.mktemp("balance") / "own.jsonl", rows)
    return prepared_table(path, row_template="", label_column="group", tokenizer="table")


def spelled(data: PreparedData, column: str, count: int, seed: int = 1, where: str | None = None) -> list[str]:
    """Return the member of each sample in words."""
    condition = None if where is None else parse_where(where, data.statistics["source"]["columns"]).get(column)
    balance = Balance.of(data, column, count, seed, condition)
    return ["/".join(balance.members[number]) for number in balance.order]


def test_each_member_has_as_many_samples_and_missing_is_one_member(data: PreparedData):
    assert Counter(spelled(data, "kind", 30)) == {"common": 10, "rare": 10, "/NA": 10}
    assert sorted(Counter(spelled(data, "kind", 32)).values()) == [10, 11, 11]
    assert Counter(spelled(data, "paid", 10)) == {"True": 5, "False": 5}


def test_the_seed_decides_the_order_and_the_members_that_are_left_over(data: PreparedData):
    assert spelled(data, "kind", 40) == spelled(data, "kind", 40)
    assert spelled(data, "kind", 40) != spelled(data, "kind", 40, seed=2)
    assert spelled(data, "kind", 30) != sorted(spelled(data, "kind", 30))
    most = {max(counts, key=counts.__getitem__) for counts in (Counter(spelled(data, "kind", 4, s)) for s in range(20))}
    assert most == {"common", "rare", "/NA"}


def test_members_that_a_condition_excludes_get_no_samples(data: PreparedData):
    assert Counter(spelled(data, "kind", 10, where="kind != common and kind is not missing")) == {"rare": 10}
    assert Counter(spelled(data, "kind", 10, where="kind in (common, rare)")) == {"common": 5, "rare": 5}
    assert Counter(spelled(data, "kind", 9, where="paid = True")) == {"common": 3, "rare": 3, "/NA": 3}


def test_members_are_those_of_the_training_rows(data: PreparedData):
    splits = {**data.splits, "train": data.splits["train"].filter(lambda row: "kind is rare" not in row["text"])}
    assert Counter(spelled(data, "kind", 10))["rare"]
    without = PreparedData(**{**vars(data), "splits": splits})
    assert Counter(spelled(without, "kind", 10)) == {"common": 5, "/NA": 5}
    with pytest.raises(UserError, match="no member of column 'kind' in the training rows satisfies"):
        spelled(without, "kind", 10, where="kind = rare")


@pytest.mark.parametrize(
    ("column", "count", "message"),
    [
        ("kinds", 9, "the rows have no column 'kinds'; they have kind"),
        ("group", 9, "column 'group' is the label; sample each label with --LABEL"),
        ("fraud", 9, "column 'fraud' is of type integer; prepare the table with --COLUMN_TYPES fraud=category"),
        ("note", 9, "column 'note' is of type text; prepare the table"),
        ("kind", 2, "column 'kind' has 3 members, more than the number of samples, 2; ask for 3 or more"),
    ],
)
def test_what_has_no_members_is_refused_in_one_line(data: PreparedData, column: str, count: int, message: str):
    with pytest.raises(UserError) as refusal:
        spelled(data, column, count)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
