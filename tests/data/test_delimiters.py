"""The delimiter of a CSV file: found from the first rows, declared, or named by the user."""

import csv
from pathlib import Path

import pytest

from pipeline.data import delimiters
from pipeline.data.file_format import Columns
from pipeline.data.formats import FORMATS
from pipeline.data.text_source import TextSource
from pipeline.runtime.errors import UserError
from tests.data.own_files import SPLIT, prepared_table

CSV = FORMATS[".csv"]


def own(folder: Path, *lines: str, suffix: str = ".csv") -> Path:
    """Write lines as the file `own`."""
    path = folder / f"own{suffix}"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def table(path: Path, delimiter: str | None = None) -> tuple[Columns, list[tuple[int, list]]]:
    """Read the columns of a CSV file, and each row with its line."""
    form = FORMATS[path.suffix]
    columns = form.columns(path, delimiter)
    return columns, [(row.line, list(row.values.values())) for row in form.read(path, columns, None, None)]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_divides_all_of_the_first_rows_alike(tmp_path: Path, mark: str):
    rows = [["old king", "3", "x, y; z|\t"], ["the queen; and", "", "a"], ["", "5", 'she said "no", twice']]
    with open(tmp_path / "own.csv", "w", newline="") as file:
        csv.writer(file, delimiter=mark).writerows([["who", "n", "said"], *rows])
    columns, found = table(tmp_path / "own.csv")
    assert (columns.names, columns.delimiter) == (("who", "n", "said"), mark)
    assert [values for _, values in found] == rows


def test_a_comma_in_the_header_and_in_all_rows_may_be_a_decimal_comma(tmp_path: Path):
    rows = [f"{n},{n + 10};{n % 3};Köln" for n in range(20)]
    columns, found = table(own(tmp_path, "Preis, netto;Menge;Ort", *rows))
    assert (columns.names, columns.delimiter) == (("Preis, netto", "Menge", "Ort"), ";")
    assert found[3] == (5, ["3,13", "0", "Köln"])
    columns, found = table(own(tmp_path, "Preis, netto;Preis, brutto", "1,50;1,79", "2,00;2,38"))
    assert columns.names == ("Preis, netto", "Preis, brutto")  # the comma would divide it into more columns
    columns, found = table(own(tmp_path, '"Name";"Preis"', '"Lampe";0,01', '"Lampe";0,02'))
    assert (columns.names, found[1]) == (("Name", "Preis"), (3, ["Lampe", "0,02"]))


def test_a_comma_divides_a_table_whose_texts_have_other_delimiters(tmp_path: Path):
    columns, found = table(own(tmp_path, "text,label", "it's quick; it's good,a", "one|two,b", "three,c"))
    assert (columns.names, columns.delimiter) == (("text", "label"), ",")
    assert found[0] == (2, ["it's quick; it's good", "a"])


def test_quoted_texts_with_a_comma_each_are_not_cut_in_pieces(tmp_path: Path):
    columns, found = table(own(tmp_path, 'id;"a,text";mood', *[f'{n};"the king, the queen";1' for n in range(20)]))
    assert columns.names == ("id", "a,text", "mood")
    assert found[0] == (2, ["0", "the king, the queen", "1"])


@pytest.mark.parametrize("city", ["Lima", '"Stratford-upon-Avon, UK"', "Rome; Italy", '"Rome; Italy|tab\t"'])
def test_a_table_may_have_one_column(tmp_path: Path, city: str):
    columns, found = table(own(tmp_path, "city", "Oslo", city, '""', "", "Lima"))
    assert (columns.names, columns.delimiter) == (("city",), ",")
    assert found == [(2, ["Oslo"]), (3, [city.strip('"')]), (4, [""]), (6, ["Lima"])]


def test_an_empty_cell_of_a_one_column_table_is_written_and_read_back(tmp_path: Path):
    rows = [{"city": "Oslo"}, {"city": None}, {"city": ""}, {"city": "Lima"}]
    CSV.write(tmp_path / "own.csv", rows, Columns(("city",)), {})
    assert [values for _, values in table(tmp_path / "own.csv")[1]] == [["Oslo"], [""], [""], ["Lima"]]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["lat;lon,label", "1;2,x", "3;4,y"], "line 1: ',' divides its rows into 2 columns, ';' into 2; name the del"),
        (
            ["a,b;c", "1,5;2", "2,5;3"],
            "line 1: ',' divides its rows into 2 columns, ';' into 2; name the delimiter wit",
        ),
        (["lat|lon|alt\tlabel", "1|2|3\tx"], "line 1: tab divides its rows into 2 columns, '|' into 3; name the del"),
        (
            ["a;b", "1;2", "3;4;5", "6"],
            "line 3: 3 fields where the header has 2; mend the line (put text with ';' in q",
        ),
        (["text,label", "one,a", "two, three,b"], "line 3: 3 fields where the header has 2; mend the line (put text w"),
        (["Ort|Stadt", "Lima", "Oslo"], "line 2: 1 fields where the header has 2; mend the line (put text with '|'"),
        (["A report", "a;b", "1;2", "3;4"], "line 2: 2 fields where the header has 1; mend the line (put text with"),
        (["a;b", '1;"2', "3;4"], "line 2: cannot be read as CSV (unexpected end of data); mend its quotes"),
        (["sep=;", "a;b", "1;2", "3"], "line 4: 1 fields where the header has 2; mend the line (put text with ';' in"),
    ],
)
def test_a_tie_or_a_ragged_table_is_refused_with_its_line(tmp_path: Path, lines: list[str], expected: str):
    path = own(tmp_path, *lines)
    with pytest.raises(UserError) as error:
        table(path)
    assert str(error.value).startswith(f"{path}, {expected}")


def test_a_ragged_row_behind_the_first_ones_is_refused_when_it_is_read(tmp_path: Path):
    path = own(tmp_path, "a;b", *["1;2"] * 300, "1;2;3")
    columns = CSV.columns(path)
    with pytest.raises(UserError, match=r"line 302: 3 fields where the header has 2; mend.*--DELIMITER"):
        list(CSV.read(path, columns, None, None))


@pytest.mark.parametrize("mark", [";", "^"])
def test_the_user_decides_about_the_delimiter(tmp_path: Path, mark: str):
    path = own(tmp_path, "lat,lon" + mark + "label", *[f"{n},{n}{mark}x" for n in range(20)])
    columns, found = table(path, mark)
    assert (columns.names, found[1]) == (("lat,lon", "label"), (3, ["1,1", "x"]))
    data = prepared_table(path, text_column="lat,lon", label_column="label", delimiter=mark)
    assert data.statistics["source"]["delimiter"] == mark


def test_a_delimiter_means_nothing_for_a_file_without_one(tmp_path: Path):
    path = own(tmp_path, '{"review": "a"}', suffix=".jsonl")
    with pytest.raises(
        UserError, match=r"--DELIMITER is for \.csv and \.tsv files and means nothing for --DATA .*jsonl"
    ):
        TextSource(str(path), SPLIT, text_column="review", delimiter=",")


@pytest.mark.parametrize(("first", "mark"), [("sep=;", ";"), ("SEP=|", "|"), ("sep=\t", "\t"), ("sep=\\t", "\t")])
def test_the_line_sep_of_excel_declares_the_delimiter_and_is_no_row(tmp_path: Path, first: str, mark: str):
    path = own(tmp_path, first, f"text, long{mark}label", f"one, two{mark}a", f"three, four{mark}b")
    columns, found = table(path)
    assert (columns.names, columns.delimiter) == (("text, long", "label"), mark)
    assert found == [(3, ["one, two", "a"]), (4, ["three, four", "b"])]
    path.write_bytes(path.read_bytes() + b"\xff")
    with pytest.raises(UserError, match="line 5, byte offset"):
        table(path)


def test_a_record_of_several_lines_counts_once_and_a_wrong_delimiter_reads_no_more_than_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = own(tmp_path, "text;n", *['"one\ntwo";1'] * 30)
    assert table(path)[1][1] == (4, ["one\ntwo", "1"])
    # Under the comma, the quotation mark of the first row opens a field that never ends.
    monkeypatch.setattr(delimiters, "FIRST_CHARACTERS", 1000)
    taken = []
    lines = (taken.append(line) or line for line in ["a,b;c\n", '1,"x;2\n', *["3;4\n"] * 10_000])
    assert delimiters.find_delimiter(path, lines)[0] == ";"
    assert len(taken) < 300


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize(
    "names",
    [
        ["a\nname", "b\r\nc", "d\re"],
        [" a ", "b\tc", 'd"e"'],
        ["\ufeffa", "b"],
        ["sep=;"],
        ["sep=", ""],
        ["", "b,c;d|e"],
    ],
    ids=repr,
)
def test_column_names_of_every_kind_survive(tmp_path: Path, suffix: str, names: list[str]):
    delimiter = "\t" if suffix == ".tsv" else ";"
    rows = [{name: f"{name}{n}" for name in names} for n in range(3)]
    FORMATS[suffix].write(tmp_path / f"own{suffix}", rows, Columns(tuple(names), delimiter), {})
    columns, found = table(tmp_path / f"own{suffix}", delimiter)
    assert columns.names == tuple(names)
    assert [values for _, values in found] == [list(row.values()) for row in rows]


def test_a_tsv_file_is_divided_by_tabs_alone(tmp_path: Path):
    path = own(tmp_path, "a,b\tc", "1,2\tx", "3,4\ty", suffix=".tsv")
    columns, found = table(path)
    assert (columns.names, columns.delimiter, found[0]) == (("a,b", "c"), "\t", (2, ["1,2", "x"]))
