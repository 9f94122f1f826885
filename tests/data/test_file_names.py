"""Names of files: suffixes in any case, compressed files, and the name under which the data are known."""

import gzip
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from pipeline.cli import prepare_command, synth_command
from pipeline.data import formats
from pipeline.data.dataset import load_prepared
from pipeline.data.file_format import TEXT, Columns
from pipeline.data.formats import FORMATS, format_of, stem_of
from pipeline.data.text_source import TextSource, dataset_name
from pipeline.data.writers import write_synthetic
from pipeline.recipes.synth import NVAE, Order, sampling, training
from pipeline.runtime.errors import UserError
from tests.data.own_files import DOCUMENTS, SPLIT, prepared_table
from tests.data.test_arbitrary_text import write_documents
from tests.helpers import call, one_line_of_error


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("change", [str.upper, lambda suffix: f"{suffix}.gz", lambda suffix: f"{suffix.title()}.GZ"])
def test_a_suffix_may_be_upper_case_and_a_file_compressed(tmp_path: Path, suffix: str, change):
    plain, _ = write_documents(tmp_path, suffix, DOCUMENTS)
    path = tmp_path / f"other{change(suffix)}"
    content = plain.read_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    form = format_of(path)
    assert form is FORMATS[suffix]
    assert (stem_of(path), dataset_name(str(path))) == ("other", "other")
    column = "review" if form.is_table else None
    source = TextSource(str(path), SPLIT, text_column=column)
    assert [row.text for row in form.read(path, source.columns, column)] == DOCUMENTS
    assert source.described({})["format"] == suffix


def test_generated_text_has_the_plain_suffix(tmp_path: Path):
    path = tmp_path / "own.CSV.gz"
    path.write_bytes(gzip.compress(("review;n\n" + "".join(f"{line};1\n" for line in DOCUMENTS)).encode()))
    data = prepared_table(path, text_column="review", label_column="n")
    written = write_synthetic([{"text": "a; king", "label": "1"}], data.statistics["source"], tmp_path).path
    assert written == tmp_path / "synthetic.csv"
    assert written.read_text() == 'review;n\n"a; king";1\n'


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-9], "Compressed file ended before"),
        (lambda content: b"review\n" + content, "Not a gzipped file"),
        (lambda content: content[:20] + b"\xff\xff\xff" + content[23:], "Error -3|CRC check failed"),
    ],
    ids=["cut", "not compressed", "changed"],
)
def test_a_damaged_compressed_file_is_refused_in_one_line(tmp_path: Path, suffix: str, damage, reason: str):
    plain, _ = write_documents(tmp_path, suffix, DOCUMENTS * 20)
    path = tmp_path / f"own{suffix}.gz"
    path.write_bytes(damage(gzip.compress(plain.read_bytes())))
    column = "review" if FORMATS[suffix].is_table else None
    with pytest.raises(UserError, match=rf"own{suffix}\.gz cannot be read as gzip \(({reason}).*\); compress it anew$"):
        TextSource(str(path), SPLIT, text_column=column).survey()


def test_the_line_and_offset_of_a_wrong_byte_are_those_of_the_decompressed_text(tmp_path: Path):
    path = tmp_path / "own.txt.gz"
    path.write_bytes(gzip.compress(b"the king\nthe \xff"))
    with pytest.raises(UserError, match=r"own\.txt\.gz, line 2, byte offset 13: no UTF-8"):
        list(FORMATS[".txt"].read(path, Columns()))


@pytest.mark.parametrize("stem", ["_own", "own.v2", "Own-3_", "a" * 100])
def test_a_name_of_ascii_characters_stays(stem: str):
    assert dataset_name(f"folder/{stem}.csv") == stem


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my reviews.csv", "my_reviews"),
        ("mes données.csv.gz", "mes_donnees"),
        ("Bewertungen (März) [2].JSON", "Bewertungen_Marz_2"),
        ("..hidden é.txt", "hidden_e"),
        ("-own.txt", "own"),
        ("数据 v2.csv", "v2"),
        ("\ufb01le №5.csv", "file_No5"),
        ("a" * 300 + ".csv", "a" * 80),
        ("a\nb.csv", "a_b"),
    ],
)
def test_a_name_of_other_characters_is_written_in_ascii(file: str, name: str):
    assert dataset_name(file) == name


@pytest.mark.parametrize("file", ["数据.csv", "§.txt", "ptb.txt", "ptb .txt", ".....csv"])
def test_a_file_without_a_name_of_its_own_needs_one(file: str):
    with pytest.raises(UserError, match=r"say with --NAME how the data are known$"):
        dataset_name(file)
    assert dataset_name(file, "mine") == "mine"


@pytest.mark.parametrize("name", ["ptb", "wikipedia-sample", "", "a b", "é", ".a", "a/b", "a" * 101])
def test_a_name_that_is_a_corpus_s_or_no_folder_s_is_refused(name: str):
    with pytest.raises(UserError, match=r"^--NAME"):
        dataset_name("own.txt", name)
    assert dataset_name("ptb", "ptb") == dataset_name("ptb") == "ptb"
    assert dataset_name("owner/name", "mine") == "mine"


def prepare(path: Path, *more: object, expect: int = 0):
    """Run prepareDatasets.py on a file; its data go to `data` beside it."""
    flags = ("--DATA", path, "--VOCAB_SIZE", 150, "--DATA_DIR", path.parent / "data")
    return call("prepareDatasets.py", *flags, *more, expect=expect)


@pytest.mark.slow
def test_the_script_prints_how_the_data_are_known(tmp_path: Path):
    path = tmp_path / "mes données.txt"
    path.write_text("\n".join(DOCUMENTS))
    said = prepare(path).stdout
    assert said.splitlines()[0] == f"the data of {path} are known as mes_donnees (--NAME mes_donnees)"
    assert len(load_prepared(tmp_path / "data", "mes_donnees").splits["train"])
    assert "known as" not in prepare(path, "--NAME", "mine").stdout
    assert len(load_prepared(tmp_path / "data", "mine").splits["train"])
    plain = path.rename(tmp_path / "own.TXT")
    assert "known as" not in prepare(plain).stdout


@pytest.mark.parametrize("command", [prepare_command, synth_command])
def test_the_commands_take_a_name_and_a_delimiter(tmp_path: Path, command, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "数据.csv"
    path.write_text("review;n\n")
    flags = ["--DATA", str(path), "--TEXT_COLUMN", "review", "--NAME", "mine", "--DELIMITER"]
    for word, mark in ((";", ";"), ("tab", "\t"), ("Comma", ","), ("semicolon", ";"), ("pipe", "|"), ("\t", "\t")):
        monkeypatch.setattr("sys.argv", ["script", *flags, word])
        parsed = vars(command.parse(""))
        assert (parsed["NAME"], parsed["DELIMITER"]) == ("mine", mark)


def test_the_flags_are_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "数据.txt"
    path.write_text("\n".join(DOCUMENTS))
    assert "say with --NAME" in one_line_of_error(prepare(path, expect=2))
    assert "is the name of a corpus; take another" in one_line_of_error(prepare(path, "--NAME", "ptb", expect=2))
    assert "--DELIMITER is for .csv and .tsv" in one_line_of_error(prepare(path, "--NAME=a", "--DELIMITER=,", expect=2))
    assert not (tmp_path / "data").exists()


def test_the_recipe_passes_names_and_delimiters_on_and_values_that_begin_with_a_dash(tmp_path: Path):
    order = Order("-a b.csv", "-text", None, None, 10, 20, "mine", ";")
    flags = ["--DATA=-a b.csv", "--NAME", "mine", "--DELIMITER", ";", "--TEXT_COLUMN=-text"]
    assert training(order)[0] == ["prepareDatasets.py", *flags]
    assert order.name == "mine"
    template = Order("a b.csv", None, None, "-{a}", 10, 20)
    assert training(template)[0] == ["prepareDatasets.py", "--DATA", "a b.csv", "--ROW_TEMPLATE=-{a}"]
    assert template.name == "a_b"
    later = [*training(template)[1:], *sampling(template, NVAE)]
    assert all(any(word.startswith("a_b") for word in step) for step in later)
    assert training(Order("a.csv", None, None, "", 10, 20))[0][-1] == "--ROW_TEMPLATE"


def test_the_recipe_needs_room_for_the_names_of_its_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "own.txt"
    path.write_text("a")
    monkeypatch.setattr("sys.argv", ["synth", "--DATA", str(path), "--NAME", "a" * 98])
    with pytest.raises(UserError, match="take a shorter --NAME"):
        synth_command.parse("")


@pytest.mark.parametrize("text", ["the\nking", "the\r\nking", "the king\r"])
def test_a_text_with_a_line_break_is_no_line_of_plain_text(tmp_path: Path, text: str):
    with pytest.raises(ValueError, match=r"a text with a line break would be two documents of a \.txt file: 'the"):
        FORMATS[".txt"].write(tmp_path / "own.txt", [{TEXT: "a"}, {TEXT: text}], Columns(), {})
    assert not list(tmp_path.iterdir())


def test_a_text_that_begins_with_a_byte_order_mark_keeps_it(tmp_path: Path):
    rows = [{TEXT: "\ufeffthe king\u2028saw"}, {TEXT: "a"}]
    FORMATS[".txt"].write(tmp_path / "own.txt", rows, Columns(), {})
    assert [row.text for row in FORMATS[".txt"].read(tmp_path / "own.txt", Columns())] == [row[TEXT] for row in rows]


def test_help_lists_the_formats():
    assert formats.listed_formats() == (
        ".txt (a document a line), .csv, .tsv, .jsonl, .json (an array of objects) or .parquet"
    )


def test_columns_survive_statistics_and_older_statistics_are_read(tmp_path: Path):
    columns = Columns(("a", "b"), ";", {"a": "int32"})
    assert Columns.from_json(json.loads(json.dumps(columns.to_json()))) == columns
    assert Columns.from_json({"order": ["a"], "delimiter": "\t"}) == Columns(("a",), "\t")
    assert Columns.from_json({"order": []}) == Columns()
    assert columns.only(["b"]) == Columns(("b",), ";", {"a": "int32"})
    FORMATS[".parquet"].write(tmp_path / "own.parquet", [{"b": "x"}], columns.only(["b"]), {})
    assert parquet.read_table(tmp_path / "own.parquet").to_pylist() == [{"b": "x"}]
