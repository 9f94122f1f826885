"""Fidelity of tables at its limits: equal tables, independent columns, disjoint values, missing values, few rows."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.near_rows import membership, near_copies
from pipeline.evaluation.table_efficacy import efficacy, target_column
from pipeline.evaluation.table_fidelity import detection, table_fidelity, trends
from pipeline.evaluation.table_frames import TableTypes

pytestmark = pytest.mark.slow

DESCRIPTIONS = {
    "size": {"kind": "number", "low": 0, "high": 100, "format": {"decimals": [0, 2], "marks": ["none", "some"]}},
    "day": {"kind": "date", "form": "DD.MM.YYYY", "low": "2020-01-01", "high": "2022-12-31", "spellings": ["padded"]},
    "city": {"kind": "category", "values": ["Bern", "Basel", "Chur"]},
    "note": {"kind": "text"},
    "group": {"kind": "category", "values": ["a", "b"]},
}
TYPES = TableTypes.of(DESCRIPTIONS)


def rows(count: int, seed: int, missing: float = 0.0) -> list[dict[str, str]]:
    """Rows whose group follows from the size, and whose size from the city."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        city = rng.choice(["Bern", "Basel", "Chur"], p=[0.5, 0.3, 0.2])
        size = float(np.clip({"Bern": 20, "Basel": 50, "Chur": 80}[city] + 8 * rng.normal(), 0, 100))
        day = pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(rng.integers(0, 1000)))
        row = {
            "size": f"{size:.2f}",
            "day": f"{day:%d.%m.%Y}",
            "city": str(city),
            "note": "x",
            "group": "a" if size > 45 else "b",
        }
        found.append({name: "" if rng.random() < missing else value for name, value in row.items()})
    return found


def frame(count: int, seed: int, missing: float = 0.0) -> pd.DataFrame:
    """The same rows as a frame."""
    return TYPES.frame(rows(count, seed, missing))


def test_values_become_numbers_dates_and_categories():
    made = TYPES.frame([{"size": "1.50", "day": "03.12.2020", "city": "Bern", "note": "x", "group": ""}])
    assert made["size"][0] == 1.5
    assert made["day"][0] == pd.Timestamp("2020-12-03")
    assert made["city"][0] == "Bern"
    assert made["group"][0] is None
    assert TYPES.left_out == ["note"]


def test_a_column_of_few_values_is_compared_although_folds_have_none():
    real, made = frame(60, 1), frame(60, 2)
    real["size"] = made["size"] = np.nan
    made.loc[7, "size"] = 5.0
    found = detection(real, made, TYPES, 1)
    assert found is not None and found > 0.5


def test_times_with_zones_are_compared_in_utc():
    form = "YYYY-MM-DDThh:mm+zz:zz"
    types = TableTypes.of({"at": {"kind": "date-time", "form": form}, "clock": {"kind": "time", "form": "hh:mm+zz:zz"}})
    made = types.frame([{"at": "2024-01-01T01:00+02:00", "clock": "01:00+02:00"}, {"at": "", "clock": ""}])
    assert made["at"][0] == pd.Timestamp("2023-12-31T23:00")
    assert made["clock"][0] == 3600
    assert made.isna().sum().tolist() == [1, 1]


def test_rows_of_the_same_source_score_like_held_out_rows():
    found = table_fidelity(frame(600, 1), frame(300, 2), frame(600, 3), TYPES)
    assert found.figures["table_shapes"] > 0.92
    assert found.figures["table_trends"] > 0.88
    assert found.figures["table_detection"] > 0.75
    assert found.figures["table_boundaries"] == pytest.approx(1, abs=0.02)
    assert found.figures["table_copies"] == 0
    assert 0.4 < found.figures["table_membership"] < 0.6
    assert found.target == "group"
    assert found.figures["table_efficacy"] > 0.95
    assert abs(found.figures["table_shapes"] - found.held_out["table_shapes"]) < 0.04


def test_training_rows_themselves_are_copies_and_betray_membership():
    train = frame(300, 1)
    found = table_fidelity(train, frame(300, 2), train.copy(), TYPES)
    assert found.figures["table_shapes"] == found.figures["table_trends"] == found.figures["table_copies"] == 1
    assert found.figures["table_membership"] > 0.95


def test_one_outlier_does_not_move_the_parts_of_a_number():
    """The real column has one value far from the others, as ggplot2's diamonds have, and the synthetic one has none."""
    types = TableTypes.of({name: DESCRIPTIONS[name] for name in ("city", "size")})
    train, made = frame(600, 1), frame(600, 3)
    train.loc[0, "size"] = 10 * train["size"].max()
    assert trends(train[["city", "size"]], made[["city", "size"]], types) > 0.9


def test_trends_are_the_mean_over_the_pairs():
    types = TableTypes({"a": "numerical", "b": "numerical", "c": "categorical", "d": "categorical"}, [], {})
    real = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": [0.0, 1, 2, 3], "c": list("xxyy"), "d": list("xyxy")})
    made = real.assign(b=[3.0, 2, 1, 0], d=list("xxxx"))
    # a and b: correlations 1 and -1. a and c agree. b and c, c and d, b and d, a and d share half of their cells.
    assert trends(real, made, types) == pytest.approx((0 + 1 + 0 + 0.5 * 3) / 6)


def test_a_pair_without_a_similarity_does_not_count():
    types = TableTypes({"a": "numerical", "b": "numerical", "c": "categorical"}, [], {})
    real = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0] * 4, "c": list("xxyy")})
    assert trends(real, real, types) == 1
    nothing = real.assign(a=np.nan)
    assert trends(real, nothing, types) < 1
    assert np.isnan(
        trends(nothing[["a", "b"]], real[["a", "b"]], TableTypes({"a": "numerical", "b": "numerical"}, [], {}))
    )


def test_independent_columns_keep_shapes_and_lose_trends():
    train, rng = frame(600, 1), np.random.default_rng(0)
    shuffled = train.apply(lambda column: column.sample(frac=1, random_state=int(rng.integers(99))).to_numpy())
    found = table_fidelity(train, frame(300, 2), pd.DataFrame(shuffled), TYPES)
    assert found.figures["table_shapes"] == 1
    assert found.figures["table_trends"] < found.held_out["table_trends"] - 0.1
    assert found.figures["table_detection"] < 0.3
    assert found.figures["table_efficacy"] < 0.7


def test_disjoint_values_score_nothing():
    other = TYPES.frame([{**row, "size": "999", "city": "Genf", "group": "c"} for row in rows(200, 1)])
    found = table_fidelity(frame(200, 1), frame(200, 2), other, TYPES)
    assert found.columns["size"] == pytest.approx(0, abs=1e-6)
    assert found.columns["city"] == pytest.approx(0, abs=1e-6)
    assert found.figures["table_detection"] == 0
    assert found.figures["table_boundaries"] < 0.6


def test_missing_values_take_part():
    train = frame(400, 1, missing=0.2)
    found = table_fidelity(train, frame(200, 2, missing=0.2), frame(400, 3, missing=0.2), TYPES)
    assert found.figures["table_shapes"] > 0.9
    assert found.figures["table_detection"] > 0.6
    never = table_fidelity(train, frame(200, 2, missing=0.2), frame(400, 3), TYPES)
    assert never.figures["table_detection"] < found.figures["table_detection"] - 0.3


def test_few_rows_and_constant_columns_leave_out_what_cannot_be_measured():
    one = {"a": {"kind": "category", "values": ["x"]}}
    types = TableTypes.of(one)
    table = types.frame([{"a": "x"}] * 5)
    found = table_fidelity(table, table, table, types)
    assert found.target is None
    assert "table_detection" not in found.figures
    assert "table_efficacy" not in found.figures
    assert found.figures["table_shapes"] == 1
    assert detection(table, table, types, 0) is None


def test_a_constant_number_or_date_has_no_range_to_cover():
    types = TableTypes.of({name: DESCRIPTIONS[name] for name in ("size", "day", "city")})
    made = [{"size": "7.00", "day": "03.12.2020", "city": city} for city in ("Bern", "Chur") * 6]
    found = table_fidelity(types.frame(made), types.frame(made), types.frame(made), types)
    assert found.figures["table_coverage"] == 1
    alone = TableTypes.of({"size": DESCRIPTIONS["size"]})
    table = alone.frame(made)
    assert "table_coverage" not in table_fidelity(table, table, table, alone).figures


def test_efficacy_of_a_number_is_its_explained_variance():
    types = TableTypes.of({name: DESCRIPTIONS[name] for name in ("city", "size")})
    train, test = types.frame(rows(400, 1)), types.frame(rows(400, 2))
    explained = efficacy(train, test, types, "size", 0, classes=False)
    assert explained.keys() == {"table_efficacy"}
    assert 0.8 < explained["table_efficacy"] < 1
    assert target_column(train, types) == "city"


def test_membership_of_rows_far_from_all_is_chance():
    far = TYPES.frame([{**row, "size": "100"} for row in rows(100, 9)])
    assert 0.4 < membership(frame(300, 1), frame(300, 2), far, TYPES, 0) < 0.6


@pytest.mark.parametrize("large", ["9" * 400, "-1e309"])
def test_numbers_beyond_those_of_a_float_count_as_the_largest(large: str):
    types = TableTypes.of({**DESCRIPTIONS, "size": {"kind": "integer" if large.isdigit() else "number", "format": {}}})
    tables = [types.frame([{**row, "size": "7"} for row in rows(100, seed)]) for seed in (1, 2, 3)]
    assert types.with_large_numbers(*tables) == []
    usual = table_fidelity(tables[0], tables[1], tables[2], types)
    with_large = types.frame([{**row, "size": large if n % 2 else "7"} for n, row in enumerate(rows(100, 3))])
    assert np.isfinite(with_large["size"]).all()
    assert types.with_large_numbers(tables[0], with_large) == ["size"]
    own = table_fidelity(tables[0], tables[1], with_large, types)
    assert own.figures["table_shapes"] < usual.figures["table_shapes"]
    assert own.figures["table_boundaries"] < 1
    assert all(np.isfinite(value) for value in own.figures.values())


def test_a_column_without_values_is_no_error():
    train, held_out, own = frame(100, 1), frame(60, 2), frame(100, 3)
    empty = own.assign(city=None)
    assert 0 <= table_fidelity(train, held_out, empty, TYPES).figures["table_efficacy"] <= 1
    nowhere = [table.assign(size=np.nan) for table in (train, held_out, own)]
    assert table_fidelity(nowhere[0], nowhere[1], nowhere[2], TYPES).figures["table_detection"] > 0.5


def test_a_class_of_one_row_among_many_rows_is_learned():
    types = TableTypes.of({name: DESCRIPTIONS[name] for name in ("size", "group")})
    some = frame(500, 1)[["size", "group"]]
    train = pd.concat([some] * 21, ignore_index=True)
    train.loc[0, "group"] = "rare"
    assert efficacy(train, frame(100, 2), types, "group", 0, classes=True)["table_efficacy"] > 0.9


def test_a_class_that_the_rows_lack_is_predicted_by_chance():
    types = TableTypes.of({name: DESCRIPTIONS[name] for name in ("size", "group")})
    train = frame(200, 1)
    found = efficacy(train[train["group"] == "a"], frame(200, 2), types, "group", 0, classes=True)
    assert found["table_efficacy"] == 0.5
    assert found["table_f1"] < 0.8


@pytest.mark.parametrize("day", ["14.10.1066", "31.12.9999"])
def test_dates_of_all_centuries_are_kept(day: str):
    table = TYPES.frame([{**row, "day": day} for row in rows(40, 1)])
    assert set(table["day"].dt.year) == {int(day[-4:])}
    assert table_fidelity(table, table, table, TYPES).columns["day"] == 1
    assert table_fidelity(frame(40, 2), table, table, TYPES).columns["day"] == pytest.approx(0, abs=1e-6)


def test_rows_with_one_column_changed_are_near_copies():
    train = frame(200, 1)
    one, two = train.assign(city="Chur", day=train["day"]), train.assign(size=-1e3, city="Genf")
    assert near_copies(train, one, TYPES, 0) == 1
    assert near_copies(train, two, TYPES, 0) == 0
    assert near_copies(train, train.assign(size=train["size"] + 0.1, city="Genf"), TYPES, 0) == 1


def test_real_trees_learn_from_as_many_rows_as_the_synthetic_ones():
    train, held_out = frame(400, 1), frame(200, 2)
    few = table_fidelity(train, held_out, train.sample(12, random_state=0), TYPES)
    assert few.held_out["table_efficacy"] == few.figures["table_efficacy"]


def test_the_order_of_rows_in_their_files_does_not_matter():
    """Folds that divide rows by their place would make any sorted table impossible to tell."""
    real, made = (frame(600, seed).sort_values("size", ignore_index=True) for seed in (1, 2))
    other = made.assign(size=made["size"] * 1.3)
    for seed in range(4):
        alike, apart = detection(real, made, TYPES, seed), detection(real, other, TYPES, seed)
        assert alike is not None
        assert apart is not None
        assert alike > 0.75
        assert apart < 0.6
