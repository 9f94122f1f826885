"""Own files come back: inputs in the shape of public bug reports, through prepareDatasets.py, with the right values."""

import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.dataset import load_prepared
from tests.helpers import call, run

DRAW = random.Random(24)
NOUNS = ("printer", "kettle", "bottle", "lamp", "cable", "jacket", "phone")
KINDS = ("blue", "noisy", "well-known", "state-of-the-art", "quick", "cheap")
CITIES = ("Lima", "Oslo", "Ur", "Rome", "Rio de Janeiro", "Stratford-upon-Avon, UK", 'Köln ("Cologne")', "Å")
CHINESE = (
    "今天",
    "朋友",
    "工作",
    "苹果",
    "图书馆",
    "我们",
    "很高兴",
    "喜欢",
    "上海",
    "北京",
    "学习",
    "机器",
    "的",
    "在",
)
THAI = ("ราชา", "เห็น", "แม่น้ำ", "และ", "เมือง", "แล้ว", "กลับบ้าน", "ทุกวัน")
OTHERS = (
    "»Ja«, sagte er, „das ist C++ oder O(n)“.",
    "राजा ने नदी को देखा। फिर वह चला गया।",
    "هل رأى الملك النهر؟ نعم، رآه.",
    "“It’s here,” she said — ‘quoted’ (twice)…",
    "She  typed [SEP]\tand [PAD], then <unk> and [UNK].",
    "👨‍👩‍👧 and 👍🏽 cost $3.14 or 3,14 €.",
)


@pytest.fixture(autouse=True)
def drawn_anew() -> None:
    """Give every test the same draws, in whatever order they run."""
    DRAW.seed(24)


def spaced(number: int) -> str:
    """Return a sentence with marks, numbers and spaces that a tokenizer of words changes."""
    noun, kind, money = DRAW.choice(NOUNS), DRAW.choice(KINDS), DRAW.randint(100, 9_999) / 100
    return (
        f"Call +1-555-01{number % 100:02d} before 10:{number % 60:02d} p.m. on 2024-04-{number % 28 + 1:02d}.",
        f"The {kind} {noun} costs £{money:.2f} and doesn't leak at all.",
        f"The U.S. {noun} isn't e.g. a {kind} one, they'd've said so...",
        f"Mail me at kim{number}@example.org or see https://shop.example.com/{noun}?id={number}#top today.",
        f'About {money:.1f}% of buyers said "{kind} {noun}s" work 24/7 at -{number % 40}°C.',
        f"I paid ${money * 100:,.0f} for this {noun}; it's a {kind} one (v2.{number % 10}).",
    )[number % 6]


def prepared(path: Path, *flags: object) -> dict[str, Any]:
    """Run prepareDatasets.py on a file with a small vocabulary; return `statistics.json`."""
    call("prepareDatasets.py", "--DATA", path, "--DATA_DIR", path.parent / "data", "--VOCAB_SIZE", 600, *flags)
    return json.loads((path.parent / "data" / path.stem / "statistics.json").read_text())


def back(path: Path) -> str:
    """Return the text of the file's round trip, which `statistics.json` must call identical."""
    folder = path.parent / "data" / path.stem
    trip = json.loads((folder / "statistics.json").read_text())["round_trip"]
    assert (trip["share"], trip["identical"], trip["differences"]) == (100.0, trip["documents"], [])
    return (folder / f"round_trip{path.suffix}").read_bytes().decode()


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def check_lines(path: Path) -> None:
    """Check that all training rows are lines of the file, bit for bit and in its order, and that none is lost."""
    source = path.read_bytes().decode().splitlines()
    found = back(path).splitlines()
    count = len(source) - (path.suffix == ".csv")
    held_out = 2 * round(0.05 * count) if count <= 1000 else None
    assert held_out is None or len(found) == len(source) - held_out
    remaining = iter(source)
    assert all(line in remaining for line in found)


def column(path: Path, name: str) -> dict[str, Any]:
    """Return the type of a column in `statistics.json`."""
    return json.loads((path.parent / "data" / path.stem / "statistics.json").read_text())["source"]["columns"][name]


# Texts.


def test_spaces_and_marks(tmp_path: Path):
    own = write_lines(tmp_path / "spacing.txt", [spaced(number) for number in range(200)])
    prepared(own, "--WHOLE_DOCUMENTS", True, "--FEWER_THAN", 150)
    check_lines(own)


def test_sentences_of_lines(tmp_path: Path):
    lines = [spaced(number) for number in range(200)]
    own = write_lines(tmp_path / "spacing.txt", lines)
    found = prepared(own)
    assert found["texts"]["dropped"] == {}
    text = "\n".join(lines)
    assert all(sentence in text for sentence in back(own).splitlines())


@pytest.mark.parametrize("words", [CHINESE, THAI], ids=["Chinese", "Thai"])
def test_scripts_without_spaces(tmp_path: Path, words: tuple[str, ...]):
    ends = "。？！" if words is CHINESE else ("", "")
    lines = ["".join(DRAW.choices(words, k=DRAW.randint(8, 16))) + DRAW.choice(ends) for _ in range(200)]
    own = write_lines(tmp_path / "script.txt", lines)
    found = prepared(own, "--WHOLE_DOCUMENTS", True, "--FEWER_THAN", 300)
    assert found["texts"] | {"kept": 200, "dropped": {}} == found["texts"]
    check_lines(own)
    split = prepared(own, "--MORE_THAN", 2)  # into sentences, long ones in pieces
    assert split["texts"]["dropped"] == {}
    parts = load_prepared(tmp_path / "data", "script").splits.values()
    held = "".join(text for part in parts for text in part["text"])
    assert Counter(held) == Counter("".join(lines))  # not one character is lost


def test_other_scripts_and_special_tokens(tmp_path: Path):
    own = write_lines(tmp_path / "mixed.txt", [f"{OTHERS[number % len(OTHERS)]} {number}" for number in range(120)])
    found = prepared(own, "--WHOLE_DOCUMENTS", True, "--FEWER_THAN", 300)
    assert found["texts"]["kept"] == 120
    check_lines(own)


# Tables.


def codes() -> list[str]:
    icd9 = ("250.0", "250.00", "401.9")
    return ["icd9,nace,n", *(f"{DRAW.choice(icd9)},{('01.50', '01.10')[n % 2]},{n}" for n in range(120))]


def padded() -> list[str]:
    return ["icd9,price", *["040.10,12.50"] * 60]


def bills() -> list[str]:
    rates = ("2.00", "0.50", "1.10")
    rows = (f"{DRAW.choice(NOUNS)},{DRAW.randint(100, 30_000) / 100:.2f},{DRAW.choice(rates)}" for _ in range(150))
    return ["name,billing,rate", *rows]


def long_numbers() -> list[str]:
    return ["id,balance", *(f"12345678901234567.{n:02d},{'-0' if n % 3 else '+5'}" for n in range(60))]


def events() -> list[str]:
    times = [f"2020-{n % 12 + 1:02d}-{n % 28 + 1:02d} {n % 24:02d}:{n % 60:02d}:00" for n in range(1300)]
    rows = (f'{time},{("out", "in")[n % 2]},"${5000 + n * 7:,}.{n % 100:02d}"' for n, time in enumerate(times))
    return ["when,kind,amount", *rows]


def names() -> list[str]:
    return ["name,mail", *(f'"O\'Brien-Smith {n}, Jr.",p.o_{n}@mail-x.example.com' for n in range(1300))]


def decimal_commas() -> list[str]:
    return ['"Name";"Preis"', *(f"Lampe;{n // 100},{n % 100:02d}" for n in range(1300))]


def small_numbers() -> list[str]:
    tiny = ["1e-05", "9e-06", *(repr(DRAW.random() * 1e-5) for _ in range(200))]
    values = [f"{DRAW.random():.4f}" if n % 3 else tiny[n // 3 % len(tiny)] for n in range(1300)]
    return ["p_value,effect", *(f"{value},{DRAW.uniform(-3, 3):.3f}" for value in values)]


def coordinates() -> list[str]:
    rows = (f"{51.5 + n * 0.0101:.4f},{(-1) ** n * (0.1 + n / 1000):.3f}" for n in range(1, 119))
    return ["lat,lon", "51.500,0.10", "51.511,-0.21", *rows]


TABLES = {
    "codes": codes,
    "constant codes": padded,
    "bills": bills,
    "long numbers": long_numbers,
    "events": events,
    "names": names,
    "decimal commas": decimal_commas,
    "small numbers": small_numbers,
    "coordinates": coordinates,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_cell_keeps_its_spelling(tmp_path: Path, name: str):
    own = write_lines(tmp_path / "table.csv", TABLES[name]())
    found = prepared(own, "--ROW_TEMPLATE", "")
    assert found["texts"]["dropped"] == {}
    assert found["texts"]["kept"] == len(own.read_text().splitlines()) - 1
    delimiter = ";" if name == "decimal commas" else ","
    cells = [list(csv.reader(text.splitlines(), delimiter=delimiter)) for text in (own.read_text(), back(own))]
    remaining = iter(cells[0])
    assert all(row in remaining for row in cells[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("events", {"when": "date-time", "amount": "number"}),
        ("names", {"mail": "e-mail"}),
        ("decimal commas", {"Preis": "number"}),
        ("small numbers", {"p_value": "number", "effect": "number"}),
        ("coordinates", {"lat": "number", "lon": "number"}),
        ("codes", {"n": "integer"}),
        ("bills", {"billing": "number", "name": "category"}),
    ],
)
def test_columns_are_known_for_what_they_are(tmp_path: Path, name: str, kinds: dict[str, str]):
    own = write_lines(tmp_path / "table.csv", TABLES[name]())
    prepared(own, "--ROW_TEMPLATE", "")
    assert {column_name: column(own, column_name)["kind"] for column_name in kinds} == kinds
    if name == "small numbers":
        low, high = column(own, "p_value")["low"], column(own, "p_value")["high"]
        assert 0 < low < 1e-5 < 0.9 < high <= 1


def test_labels_keep_their_spelling(tmp_path: Path):
    stars = ("4.50", "4.5", "3.0", "005")
    rows = [f"The kettle number {n} broke after some days of use.,{stars[n % 4]}" for n in range(120)]
    own = write_lines(tmp_path / "stars.csv", ["text,stars", *rows])
    found = prepared(own, "--TEXT_COLUMN", "text", "--LABEL_COLUMN", "stars")
    assert set(found["labels"]) == set(stars)
    assert set(back(own).splitlines()) <= {"text,stars", *rows}


def test_labels_of_json_keep_their_types(tmp_path: Path):
    labels: tuple[Any, ...] = (1, "1", True, "True", None, 1.0, "")
    rows = [{"text": f"The kettle number {n} broke after some days.", "label": labels[n % 7]} for n in range(140)]
    own = tmp_path / "typed.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prepared(own, "--TEXT_COLUMN", "text", "--LABEL_COLUMN", "label")
    assert len(found["labels"]) == 7
    assert set(back(own).splitlines()) <= set(own.read_text().splitlines())
    counts = Counter(repr(json.loads(line)["label"]) for line in back(own).splitlines())
    assert set(counts) == set(map(repr, labels))


def test_a_table_of_one_column_keeps_its_short_rows(tmp_path: Path):
    with open(own := tmp_path / "onecol.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["city"], *([CITIES[n % 8]] for n in range(200))])
    found = prepared(own, "--ROW_TEMPLATE", "{city}")
    assert (found["texts"]["kept"], found["texts"]["dropped"], found["train"]["sentences"]) == (200, {}, 180)
    check_lines(own)


def test_a_table_of_one_column_of_text_is_not_lost_without_a_word(tmp_path: Path):
    with open(own := tmp_path / "onecol.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["city"], *([CITIES[n % 8]] for n in range(200))])
    flags = ("--DATA", own, "--TEXT_COLUMN", "city", "--DATA_DIR", tmp_path / "data")
    refused = call("prepareDatasets.py", *flags, expect=2).stderr.splitlines()[-1]
    assert "too short" in refused
    assert "--MORE_THAN 2 keeps the short ones" in refused
    assert prepared(own, "--TEXT_COLUMN", "city", "--MORE_THAN", 2)["texts"]["kept"] == 200


# Labels without a training sentence.


@pytest.mark.slow
def test_a_label_without_a_training_sentence_is_refused(tmp_path: Path):
    rows = [(f"The kettle number {n} broke after some days of use.", ("good", "bad")[n % 2]) for n in range(120)]
    rows += [("5", "ugly")] * 4  # too short for a sentence
    own = write_lines(tmp_path / "rare.csv", ["text,kind", *map(",".join, rows)])
    found = prepared(own, "--TEXT_COLUMN", "text", "--LABEL_COLUMN", "kind")
    assert found["labels_without_training"] == ["ugly"]
    places = ("--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "outputs")
    small = ("--DIM_H", 16, "--MAX_STEPS", 2, "--BATCH_SIZE", 8)
    call("train.py", "--EXPERIMENT_NAME", "rare", "--MODEL", "NVIB", "--DATA", "rare", *small, *places)
    sample = ("--EXPERIMENT_NAME", "rare", "--NUMBER_SAMPLES", 4, *places)
    refused = run("sample.py", *sample, "--LABEL", "ugly", expect=2)
    line = refused.stderr.strip().splitlines()[-1]
    assert "'ugly'" in line
    for label in ("good", "bad"):
        assert f"{label} ({found['labels'][label]})" in line or f"{label!r} ({found['labels'][label]})" in line
    assert not list((tmp_path / "outputs").rglob("samples.jsonl"))
    call("sample.py", *sample, "--LABEL", "good")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "flags", "mark", "columns"),
    [
        (
            ["Preis, netto;Menge;Ort", *(f"{n},47;{n % 9};Köln" for n in range(60))],
            1,
            ";",
            ["Preis, netto", "Menge", "Ort"],
        ),
        (["sku|qty|colour", *(f"A{n}|{n % 9}|blue" for n in range(60))], 1, "|", ["sku", "qty", "colour"]),
        (['"Name";"Preis"', *(f'"Lampe";{n},0{n % 9}' for n in range(60))], 1, ";", ["Name", "Preis"]),
        (
            ["text|label", *(f"I paid ${n},365; it's a quick one (v2.{n}).|{'ab'[n % 2]}" for n in range(60))],
            2,
            "|",
            None,
        ),
        (["sep=;", "text;label", *(f"The kettle number {n} is on it.;a" for n in range(60))], 2, ";", None),
    ],
    ids=["decimal commas", "bars", "quotes", "bars around commas", "the line of Excel"],
)
def test_tables_of_other_delimiters_come_back(
    tmp_path: Path, lines: list[str], flags: int, mark: str, columns: list[str] | None
):
    """`flags` is 1 for rows as text, and 2 for a text column with labels."""
    path = tmp_path / "own.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    how = ("--ROW_TEMPLATE",) if flags == 1 else ("--TEXT_COLUMN", "text", "--LABEL_COLUMN", "label")
    source = prepared(path, *how)["source"]
    assert source["delimiter"] == mark
    assert source["order"] == (columns or ["text", "label"])
    header, *rows = csv.reader(back(path).splitlines(), delimiter=mark)
    own = lines[1:] if lines[0].startswith("sep=") else lines
    known = list(csv.reader(own, delimiter=mark))
    assert header == known[0]
    assert len(rows) == load_prepared(tmp_path / "data", "own").statistics["train"]["sentences"]
    assert not [row for row in rows if row not in known]
