"""Every flag of every script: what it refuses, in one line and before any work, and that its help explains it."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from pipeline.cli import entry, types
from pipeline.cli.parser import Parser
from tests.helpers import RECIPES, ROOT, call, one_line_of_error, run, run_as_main

SLOW = ("accelerate", "datasets", "huggingface_hub", "matplotlib", "numpy", "optuna", "pandas", "pyarrow", "sacrebleu")
SLOW += ("gradio", "playwright", "safetensors", "tokenizers", "torch", "transformers", "wandb")


class Seen(Exception):  # noqa: N818
    """Carries a script's parser out of it."""


def parser_of(script: str) -> Parser:
    def seen(parser: Parser, *_: object) -> None:
        raise Seen(parser)

    def parse(description: str, command: entry.Command) -> None:
        command.parse(description)

    with (
        mock.patch.object(entry, "run_script", parse),
        mock.patch.object(Parser, "parse_args", seen),
        mock.patch.object(sys, "argv", [script]),
        pytest.raises(Seen) as caught,
    ):
        run_as_main(script)
    return caught.value.args[0]


def flags(parser: Parser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]


PARSERS = {name: parser_of(name) for name in (*sorted(path.name for path in ROOT.glob("*.py")), *RECIPES)}
FLAGS = [(script, action) for script, parser in PARSERS.items() for action in flags(parser)]
every_flag = pytest.mark.parametrize(
    ("script", "action"), FLAGS, ids=[f"{Path(script).stem}{action.option_strings[0]}" for script, action in FLAGS]
)


# What is bad, by the type of a flag.

NO_NUMBERS = [
    "",
    " ",
    "x",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "None",
    "True",
    "1,5",
    "1 2",
    "0x10",
    "--",
]
NO_NUMBERS += ["9" * 400, "-" + "9" * 400, "9" * 5000, "1\n\nx", "\x1b[2J"]
NO_INTEGERS = ["0.5", "1.0", "1e3", "1/2"]
NO_BOOLEANS = ["", "yes", "no", "0", "1", "None", "nan", "Tru", "True ", "True\n", "True False"]
NO_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "..\\x",
    "a/b",
    "a\\b",
    "/abs",
    "~",
    "-x",
    ".hidden",
    "a b",
    " a",
    "a\n",
    "a\nb",
    "a\0b",
]
NO_NAMES += ["a" * 101, "é", "$(x)", "a;b", "*", "a:b"]
NO_FOLDERS = ["", "file", "file/below", "file/", "a\0b", "x" * 300]
NO_FILES = ["", "missing", "outputs", "file/below", "a\0b", "x" * 300, "../missing", "/missing"]
NO_DATABASES = ["study.db", "/abs/study.db", "sqlite", "://", "sqlite:///a b", "sqlite:///a\nb", "1"]
NO_ADDRESSES = ["", " ", "here", "256.0.0.1", "127.0.0", "127.0.0.1:80", "http://127.0.0.1", "::g", "a\0b", "0.0.0.0\n"]
NO_PROJECTS = [
    "me",
    "me/",
    "/nvib",
    "me/nvib/x",
    "me nvib",
    "../nvib",
    "me/..",
    "me/a?b",
    "me/a\nb",
    "me/a\0b",
    "https://x",
]

NO_SENTENCES = ["", " ", "\n\t", "\0", "a\0b"]
NO_TEXTS = ["", ".", "..", "nothing", "a/b", "/abs", "x.doc", "../.txt", "a b.txt", "-x.txt", "missing.txt", "ptb.txt"]
NO_TEXTS += ["../missing.csv", "a\0b.txt", "a\nb.txt", "folder.txt", "x" * 300 + ".txt"]
NO_TOKENIZERS = [".", "..", "../x", "/abs", "a/b/c", "x.json", "outputs", "a b", "a\0b", "a\n", "x" * 300 + ".json"]

OF_ITS_OWN = {
    ("prepareDatasets.py", "--DATA"): NO_TEXTS,
    ("prepareDatasets.py", "--TOKENIZER"): NO_TOKENIZERS,
    ("prepareDatasets.py", "--TEXT_COLUMN"): ["text", "nan"],  # any text may be a column's name; here is no table
    ("prepareDatasets.py", "--LABEL_COLUMN"): ["label"],
    ("prepareDatasets.py", "--ROW_TEMPLATE"): ["{a} is {b}"],
    ("synth", "--DATA"): NO_TEXTS,
    ("synth", "--TEXT_COLUMN"): ["text"],
    ("synth", "--LABEL_COLUMN"): ["label"],
    ("synth", "--ROW_TEMPLATE"): ["{a} is {b}"],
    ("paper", "--DATA"): ["nothing"],
}


# What the limits of a type must not let pass, whatever they are: a number that may be nothing, or more than a whole, is
# named here.
MAY_BE_ZERO = {"ALPHA_THRESHOLD", "DELTA", "FREE_BITS", "IMPORTANCE_SAMPLES", "KL_DIRICHLET_LAMBDA", "PRIOR_MU", "SEED"}
MAY_BE_ZERO |= {
    "KL_DIRICHLET_WEIGHT",
    "KL_GAUSSIAN_LAMBDA",
    "KL_GAUSSIAN_WEIGHT",
    "LOADER_WORKERS",
    "NEAR_COPY_DISTANCE",
    "SEEDS",
    "WARMUP_STEPS",
}
SHARES = {
    "DROPOUT",
    "KL_WARMUP",
    "NEAR_COPY_DISTANCE",
    "STRIDE_PERC",
    "TEST_FRACTION",
    "TOP_P",
    "VALIDATION_FRACTION",
    "WORD_DROPOUT",
}
MAY_BE_ZERO |= {"DROPOUT", "KL_WARMUP", "LATENT_TEMPERATURE", "LENGTH_PENALTY", "STRIDE_PERC", "WEIGHTS"}
MAY_BE_ZERO |= {"WORD_DROPOUT"}
MAY_BE_NEGATIVE = {"LOADER_WORKERS", "PRIOR_MU"}


def out_of_range(kind: types.Bounded) -> Iterator[str]:
    least = 1 if kind.kind is int else 1e-6
    for limit, step in ((kind.low, -least), (kind.high, least), (kind.above, 0), (kind.below, 0)):
        if limit is not None:
            yield str(kind.kind(limit + step))
    if kind.low is not None or kind.above is not None:
        yield "-1000"
    yield from (str(2**63), str(-(2**63))) if kind.kind is int else ("1e31", "-1e31", "1e-31", "-1e-31", "1e-320")


def bad_values(kind: object) -> list[str]:
    """Values that no flag of a type takes; none where the type says nothing about them."""
    if isinstance(kind, types.OrNone):
        return [value for value in bad_values(kind.kind) if value not in ("", "None")]
    if isinstance(kind, types.BooleanOr):
        return [value for value in bad_values(kind.kind) if value != "True"]
    if isinstance(kind, types.Bounded):
        return [*NO_NUMBERS, *(NO_INTEGERS if kind.kind is int else ()), *out_of_range(kind)]
    return {
        types.limit: [*NO_NUMBERS, *NO_INTEGERS, "0", "-2", "1000000000000"],
        types.boolean: NO_BOOLEANS,
        types.name: NO_NAMES,
        types.folder: NO_FOLDERS,
        types.file: NO_FILES,
        types.address: NO_ADDRESSES,
        types.database: NO_DATABASES,
        types.wandb_project: NO_PROJECTS,
        types.sentence: NO_SENTENCES,
    }.get(kind, [])


def bad_arguments(script: str, action: argparse.Action) -> list[list[str]]:
    flag = action.option_strings[0]
    if action.choices is not None:
        values = ["", " ", "nothing", "1", "nan", "None", "True", *(f"{c} " for c in action.choices)]
        values += [choice.swapcase() for choice in action.choices]
    else:
        values = bad_values(action.type)
        if isinstance(action.type, types.Bounded):
            values += ["0"] if action.dest not in MAY_BE_ZERO else []
            values += ["-0.5", "-1"] if action.dest not in MAY_BE_NEGATIVE else []
            values += ["1.5", "100"] if action.dest in SHARES else []
    values = [*values, *OF_ITS_OWN.get((script, flag), [])]
    assert values, f"say in OF_ITS_OWN what {flag} of {script} refuses"
    arguments = [[f"{flag}={value}"] for value in values]
    if action.nargs == "+":
        good = good_value(action)
        arguments += [[flag, good, value] for value in values if not value.startswith("-")]
        arguments += [[flag, good, good]] if isinstance(action, types.Distinct) else []
    return [[flag], *arguments]


def good_value(action: argparse.Action) -> str:
    if action.choices is not None:
        return next(iter(action.choices))
    if action.dest == "DATA" and action.required:
        return "own.txt"
    return "1" if isinstance(action.type, types.Bounded) else "good"


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder with outputs and data, and nothing that is slow to import."""
    for name in ("outputs/nvib/good/config.json", "data/tiny/statistics.json", "file", "own.csv", "own.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.chdir(tmp_path)
    own = [name for name in sys.modules if name.split(".")[0] in ("pipeline", "models")]
    with mock.patch.dict(sys.modules, dict.fromkeys(SLOW)):  # to import one of them is an error
        for name in own:
            del sys.modules[name]
        yield tmp_path


def needed(script: str) -> list[str]:
    """The arguments without which a script does nothing, and where it would write."""
    arguments = [f"{a.option_strings[0]}={good_value(a)}" for a in flags(PARSERS[script]) if a.required]
    places = {"--OUTPUT_DIR": "outputs", "--DATA_DIR": "data"}
    known = {flag for action in flags(PARSERS[script]) for flag in action.option_strings}
    return arguments + [f"{flag}={folder}" for flag, folder in places.items() if flag in known]


def content(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refusal(place: Path, script: str, *arguments: object) -> str:
    """The one line of a refused command, which leaves everything as it was and says nothing else."""
    before = content(place)
    refused = call(script, *needed(script), *arguments, expect=2)
    line = one_line_of_error(refused)
    assert line.startswith(f"{script}: error: ")
    assert line.isprintable()
    assert len(line) < 700
    assert refused.stderr == f"{line}\n"
    assert refused.stdout == ""
    assert content(place) == before
    return line


@every_flag
def test_a_bad_value_is_refused_by_the_flag_s_name(place: Path, script: str, action: argparse.Action):
    for arguments in bad_arguments(script, action):
        assert action.option_strings[0] in refusal(place, script, *arguments), arguments


@every_flag
def test_help_says_what_a_flag_means_and_what_it_is_without(script: str, action: argparse.Action):
    assert action.help
    assert action.help.strip()[-1] != "."
    sections = re.split(r"\n  (?=-)", PARSERS[script].format_help())
    section = " ".join(next(text for text in sections if text.startswith(action.option_strings[0])).split())
    if not action.required:
        assert "default" in section
    kind = action.type.kind if isinstance(action.type, types.OrNone) else action.type
    if isinstance(kind, types.Bounded) and kind.below is not None:
        assert re.search(r"\[0, 1\)|share", section)


@pytest.mark.parametrize("script", PARSERS)
@pytest.mark.parametrize("argument", ["--NO_SUCH_FLAG", "--no_such=1", "left_over", "-x", "a\nb", "\x1b[2J"])
def test_what_is_no_flag_is_refused(place: Path, script: str, argument: str):
    assert "unrecognized arguments" in refusal(place, script, argument)


@pytest.mark.parametrize(
    "script", [script for script, parser in PARSERS.items() if any(a.required for a in flags(parser))]
)
def test_a_flag_that_is_needed_is_asked_for(place: Path, script: str):
    line = one_line_of_error(call(script, expect=2))
    assert all(action.option_strings[0] in line for action in flags(PARSERS[script]) if action.required)


@pytest.mark.parametrize("script", PARSERS)
def test_a_process_refuses_in_one_line_too(tmp_path: Path, script: str):
    places = [
        argument.replace("=", f"={tmp_path}/") if "_DIR=" in argument else argument for argument in needed(script)
    ]
    bad = next((bad_arguments(script, action)[1] for action in flags(PARSERS[script])), ["--NO_SUCH_FLAG"])
    finished = run(script, *places, *bad, expect=2)
    assert bad[0].partition("=")[0] in one_line_of_error(finished)
    assert finished.stdout == ""
    assert not list(tmp_path.iterdir())


# What contradicts itself.


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        *(
            (script, ("--MODEL", model, flag, value), f"{flag} means nothing for --MODEL {model}; leave it out")
            for script in ("train.py", "tune.py")
            for model, flag, value in (
                ("T", "--DELTA", "0.5"),
                ("T", "--KL_GAUSSIAN_LAMBDA", "1"),
                ("VTV", "--KAPPA", "2"),
                ("VTV", "--POOLING", "max"),
                ("VTP", "--STRIDE_PERC", "0.5"),
                ("VTS", "--ALPHA_ACTIVATION", "relu"),
                ("NVIB", "--POOLING", "mean"),
                ("LM", "--PRIOR_VAR", "1"),
            )
        ),
        *(
            (script, ("--MODEL", "NVIB", *arguments), "DIM_H must be a multiple of NUM_HEADS, got")
            for script in ("train.py", "tune.py")
            for arguments in (("--DIM_H", "16", "--NUM_HEADS", "3"), ("--NUM_HEADS", "7"), ("--NUM_HEADS", "512"))
        ),
        ("sample.py", ("--MIN_LENGTH", "9", "--MAX_LENGTH", "8"), "--MIN_LENGTH 9 is above --MAX_LENGTH 8"),
        ("sample.py", ("--TEMPERATURE", "0.5"), "--TEMPERATURE means nothing for --DECODING greedy"),
        ("sample.py", ("--DECODING", "greedy", "--TOP_P", "0.9"), "--TOP_P means nothing for --DECODING greedy"),
        *(
            ("sample.py", arguments, message)
            for arguments, message in (
                (("--DECODING", "beam", "--TOP_P", "0.9"), "--TOP_P means nothing for --DECODING beam"),
                (
                    ("--BEAMS", "5"),
                    "--BEAMS means nothing for --DECODING greedy; leave it out, or take --DECODING beam",
                ),
                (
                    ("--DECODING", "sample", "--LENGTH_PENALTY", "1"),
                    "--LENGTH_PENALTY means nothing for --DECODING sam",
                ),
                (("--NEAR", "a", "--MIX", "a", "b"), "leave one of them out"),
                (("--MIX", "a"), "--MIX mixes two sentences or more, got one"),
                (("--MIX", "a", "b", "--WEIGHTS", "1"), "--WEIGHTS has 1 for the 2 sentences of --MIX"),
                (("--MIX", "a", "b", "--WEIGHTS", "0", "0"), "--WEIGHTS are all 0"),
                (("--WEIGHTS", "1"), "--WEIGHTS are those of the sentences of --MIX"),
                (("--NEAR", "a", "--WEIGHTS", "1"), "--WEIGHTS are those of the sentences of --MIX"),
                (("--NEAR", "a", "--VECTORS", "3"), "--VECTORS is of the prior and means nothing for --NEAR"),
                (("--MIX", "a", "b", "--SAMPLING_DISTRIBUTION", "data"), "of the prior and means nothing for --MIX"),
                (("--VECTORS", "3", "--SAMPLING_DISTRIBUTION", "uniform"), "means nothing for --VECTORS"),
                (("--MIX", "a", "b", "--KAPPA", "3"), "--KAPPA means nothing where --LATENT_TEMPERATURE is 0"),
                (("--NEAR", "a", "--KAPPA", "3", "--LATENT_TEMPERATURE", "0"), "--KAPPA means nothing where"),
            )
        ),
        *(
            ("prepareDatasets.py", arguments, message)
            for arguments, message in (
                (("--VALIDATION_FRACTION", ".5", "--TEST_FRACTION", ".5"), "their sum must be below 1"),
                (("--MORE_THAN", "50"), "--MORE_THAN and --FEWER_THAN leave no length between them"),
                (("--FEWER_THAN", "6"), "--MORE_THAN and --FEWER_THAN leave no length between them"),
                (("--DATA", "ptb", "--LOCAL_PATH", "data"), "--LOCAL_PATH holds WikiText and means nothing for --DATA"),
                (("--DATA", "own.txt", "--LOCAL_PATH", "data"), "--LOCAL_PATH holds WikiText and means nothing for"),
                (("--TEXT_COLUMN", "text"), "--TEXT_COLUMN is of a table and means nothing for --DATA wikitext2"),
                (("--DATA", "own.txt", "--TEXT_COLUMN", "text"), "--TEXT_COLUMN is of a table and means nothing for"),
                (("--LABEL_COLUMN", "stars"), "--LABEL_COLUMN is of a table and means nothing for --DATA wikitext2"),
                (("--DATA", "own.txt", "--ROW_TEMPLATE"), "--ROW_TEMPLATE is of a table and means nothing for"),
                (
                    ("--DATA", "own.csv", "--TEXT_COLUMN", "a", "--ROW_TEMPLATE"),
                    "--TEXT_COLUMN and --ROW_TEMPLATE are two ways",
                ),
                (
                    ("--DATA", "own.csv", "--ROW_TEMPLATE", "--WHOLE_DOCUMENTS", "False"),
                    "--WHOLE_DOCUMENTS False would divide a row's text",
                ),
                (("--DATA", "own.csv", "--TEXT_COLUMN", "a", "--LABEL_COLUMN", "a"), "name the same column; name two"),
                (("--DATA", "owner/name", "--ROW_TEMPLATE"), "--ROW_TEMPLATE is of a table in a file"),
                (("--DATA", "own.csv"), "name the column that holds the text with --TEXT_COLUMN"),
                (("--DATA", "own.csv", "--TEXT_COLUMN", "None"), "name the column that holds the text with"),
                (("--VOCAB_SIZE", "100"), "--VOCAB_SIZE means nothing for --TOKENIZER bert-base-uncased"),
                (
                    ("--DATA", "wikipedia-sample", "--TOKENIZER", "me/mine", "--VOCAB_SIZE", "100"),
                    "--VOCAB_SIZE means nothing for --TOKENIZER me/mine",
                ),
            )
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(place: Path, script: str, arguments: tuple, message: str):
    assert message in refusal(place, script, *arguments)


CONFIGURATIONS = {
    "": "cannot be read",
    "{": "cannot be read",
    "\0": "cannot be read",
    "null": "is no configuration",
    "[1]": "is no configuration",
    "3": "is no configuration",
    '"text"': "is no configuration",
    "{}": "is no configuration",
    '{"model": {}}': "is no configuration",
    '{"model": [], "training": {}}': "is no configuration",
    '{"model": {}, "training": null}': "is no configuration",
    **{
        f'{{"model": {{"name": {name}}}, "training": {{}}}}': "names the model"
        for name in ('"BERT"', '""', '"t"', "null", "5", "true", '["T"]', "{}", '"a\\nb"')
    },
    **{
        f'{{"model": {{"name": "NVIB", {setting}}}, "training": {{}}}}': message
        for setting, message in (
            ('"wings": 2', "has 'wings', which is no setting"),
            ('"DIM_H": 16', "has 'DIM_H', which is no setting"),
            ('"experiment_name": "x"', "has 'experiment_name', which is no setting"),
            ('"a\\nb": 2', "which is no setting"),
            ('"dim_h": "16"', "dim_h must be an integer"),
            ('"dim_h": 16.0', "dim_h must be an integer"),
            ('"dim_h": true', "dim_h must be an integer"),
            ('"dim_h": null', "dim_h must be an integer"),
            ('"dim_h": [16]', "dim_h must be an integer"),
            ('"dim_h": {"value": 16}', "dim_h must be an integer"),
            ('"dim_h": -16', "dim_h must be at least 2"),
            ('"dropout": 2', "dropout must be at least 0 and below 1"),
            ('"dropout": NaN', "c.json"),
            ('"prior_mu": 1e999', "prior_mu must be finite"),
            ('"alpha_activation": "tanh"', "alpha_activation must be one of exp, relu"),
            ('"alpha_activation": null', "alpha_activation must be one of exp, relu"),
            ('"alpha_activation": ["exp"]', "alpha_activation must be one of exp, relu"),
            ('"pooling": "max"', "--POOLING means nothing for --MODEL NVIB"),
            ('"dim_h": 16, "num_heads": 3', "DIM_H must be a multiple of NUM_HEADS"),
        )
    },
    **{
        f'{{"model": {{"name": "T"}}, "training": {{{setting}}}}}': message
        for setting, message in (
            ('"seed": -1', "seed must be at least 0"),
            ('"max_steps": 0', "max_steps must be at least 1, or -1"),
            ('"epochs": "3"', "epochs must be an integer"),
            ('"learning_rate": 0', "learning_rate must be above 0"),
            ('"compile": "True"', "compile must be True or False"),
            ('"compile": 1', "compile must be True or False"),
            ('"precision": "fp8"', "precision must be one of"),
        )
    },
}


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_bad_configuration_is_refused_with_its_place(place: Path, text: str):
    (place / "c.json").write_text(text)
    line = refusal(place, "train.py", "--CONFIG", "c.json")
    assert CONFIGURATIONS[text] in line
    assert "c.json" in line or "--POOLING" in line or "DIM_H" in line


def test_what_a_configuration_says_is_checked_even_where_a_flag_comes_before_it(place: Path):
    (place / "c.json").write_text('{"model": {"name": "T", "dropout": 2}, "training": {}}')
    assert "dropout must be" in refusal(place, "train.py", "--CONFIG", "c.json", "--DROPOUT", "0.1")


def test_a_file_s_name_breaks_no_line(place: Path):
    (place / "a\nb\x1b.json").write_text("{}")
    assert "a b\\x1b.json is no configuration" in refusal(place, "train.py", "--CONFIG", "a\nb\x1b.json")


# What is not refused.


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train.py", ("--EPOCHS", "-1", "--MAX_STEPS", "-1", "--PATIENCE", "-1")),
        ("train.py", ("--MODEL", "NVIB", "--PRIOR_MU", "-1e-3", "--DELTA", "0", "--DROPOUT", "0")),
        ("train.py", ("--EXPERIMENT_NAME", "a" * 100, "--WANDB_ENTITY", "", "--SEED", 2**32 - 1)),
        ("tune.py", ("--STORAGE", "sqlite:///study.db", "--SEEDS", 3, 1)),
        ("tune.py", ("--STORAGE", "None")),
        ("report.py", ("--FROM_WANDB", "me/a project", "--EXPERIMENTS", "a", "b")),
        ("sample.py", ("--MIN_LENGTH", 8, "--MAX_LENGTH", 8, "--DECODING", "sample", "--TOP_P", 1)),
        ("sample.py", ("--NEAR", "a", "--LATENT_TEMPERATURE", 0, "--DECODING", "beam", "--BEAMS", 1)),
        ("sample.py", ("--MIX", "a", "b", "c", "--WEIGHTS", 1, 1, 0, "--LATENT_TEMPERATURE", 2, "--KAPPA", 3)),
        ("quality.py", ("--NEAR_COPY_DISTANCE", 0, "--DROP_COPIES", "True")),
        ("quality.py", ("--DROP_COPIES", 0.5)),
        ("prepareDatasets.py", ("--LOCAL_PATH", "None", "--TOKENIZER", "me/mine", "--MORE_THAN", 48)),
        ("prepareDatasets.py", ("--DATA", "own.csv", "--TEXT_COLUMN", "a column", "--VOCAB_SIZE", 100)),
    ],
)
def test_what_is_meant_is_taken(place: Path, script: str, arguments: tuple):
    """The script comes as far as its work, for which there is nothing here."""
    with (
        mock.patch("pipeline.cli.entry.run_script", lambda description, command: command.parse(description)),
        mock.patch.object(sys, "argv", [script, *needed(script), *map(str, arguments)]),
    ):
        run_as_main(script)
