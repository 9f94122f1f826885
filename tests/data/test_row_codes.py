"""How many values of a column have a token each."""

import pytest

from pipeline.data.column_code import ValueCode
from pipeline.data.column_types import CATEGORIES, MANY_CATEGORIES
from pipeline.data.row_codes import _Column


@pytest.mark.parametrize(("kind", "most"), [("category", MANY_CATEGORIES), ("mixed", CATEGORIES)])
def test_values_have_a_token_each_up_to_the_limit_of_their_type(kind: str, most: int):
    for count, few in ((most, True), (most + 2, False)):
        column = _Column({"kind": kind})
        for number in range(count):
            column.add(f"C-{number}")
        assert isinstance(column.code(), ValueCode) == few
