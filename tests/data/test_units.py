"""Units of measurement: a column has one, and numbers in another one are no numbers of it."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from pipeline.data.column_types import ColumnTypes, RejectedError
from pipeline.data.conditions import parse_where
from pipeline.data.constraints import read_constraints
from pipeline.data.number_code import NumberCode
from pipeline.data.number_spelling import MEASURES
from pipeline.data.row_codes import column_codes
from pipeline.data.row_template import RowTemplate
from pipeline.runtime.errors import UserError
from tests.data.own_files import surveyed

WEIGHTS = [f"{number} kg" for number in range(40, 121)]
COLUMNS = surveyed({"weight": weight, "age": str(number)} for number, weight in enumerate((*WEIGHTS, "50 g", "900 g")))


@pytest.mark.parametrize("unit", sorted(MEASURES))
def test_numbers_without_their_white_space_and_capitals_are_read(unit: str):
    column = surveyed({"size": f"{number} {unit}"} for number in range(30, 55))
    types = ColumnTypes(column, lossless=False)
    assert types.value("size", f"4 4{unit}") == types.value("size", f"44 {unit.lower()}") == f"44 {unit}"


def test_a_column_with_a_few_numbers_in_another_unit_keeps_them_as_they_are():
    assert [outlier[0] for outlier in COLUMNS["weight"]["outliers"]] == ["50 g", "900 g"]
    types = ColumnTypes(COLUMNS)
    assert types.value("weight", "900 g") == "900 g"
    for other in ("60 g", "60 lb"):
        with pytest.raises(RejectedError, match="is no number"):
            types.value("weight", other)


def test_an_amount_in_another_unit_stays_where_the_code_changes_spellings():
    values = [*(f"{n} kg" for n in range(1, 1700)), *(f"{n}kg" for n in range(1, 1100)), "500 g"]
    template, columns = RowTemplate("{weight}", ["weight"], "own"), surveyed({"weight": value} for value in values)
    _, codes = column_codes(lambda: values, template, columns, lambda _: Tokenizer(BPE()), 0)
    code = codes["weight"]
    assert isinstance(code, NumberCode) and code.loose
    decoded = [code.decode(code.encode(value) or ()) for value in ("500 g", "500 kg", "500kg")]
    assert decoded == ["500 g", "500 kg", "500 kg"]


def test_conditions_compare_within_the_unit():
    above = parse_where("weight > 110", COLUMNS)["weight"]
    assert above.permits("111 kg") and not above.permits("900 g") and not above.permits("110 kg")
    assert not parse_where("weight = '50 kg'", COLUMNS)["weight"].permits("50 g")
    assert parse_where("weight != 50", COLUMNS)["weight"].permits("51 kg")
    for where, words in (
        ("weight > '100 lb'", "'100 lb' has the unit 'lb', and column 'weight' has the unit 'kg'"),
        ("age > '5 kg'", "'5 kg' has the unit 'kg', and column 'age' has no unit"),
    ):
        with pytest.raises(UserError, match=words):
            parse_where(where, COLUMNS)


def test_a_category_of_several_units_has_no_order():
    mixed = surveyed({"size": size} for size in ("5 kg", "500 g", "2 kg", "250 g") * 10)
    assert mixed["size"]["kind"] == "category"
    with pytest.raises(UserError, match="order"):
        parse_where("size > 100", mixed)


def test_an_inequality_of_two_units_is_refused(tmp_path: Path):
    rows = surveyed({"a": f"{n} kg", "b": f"{100 * n + 50} g", "c": f"{n + 3} kg"} for n in range(1, 40))
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"inequality": "a <= c"}]))
    rule = read_constraints(path, rows)
    assert rule.holds({"a": "5 kg", "c": "5 kg"}) and not rule.holds({"a": "6 kg", "c": "5 kg"})
    path.write_text(json.dumps([{"inequality": "a <= b"}]))
    with pytest.raises(UserError, match="'a' has the unit kg and 'b' has the unit g"):
        read_constraints(path, rows)
