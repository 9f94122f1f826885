"""Parsers of all scripts, values that their flags refuse, and the refusal of a command."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from models.declaration import Bounds
from pipeline.cli import entry, types
from pipeline.cli.parser import Parser
from tests.helpers import RECIPES, ROOT, call, one_line_of_error, run_as_main

SLOW = ("accelerate", "datasets", "huggingface_hub", "matplotlib", "numpy", "optuna", "pandas", "pyarrow", "sacrebleu")
SLOW += ("gradio", "playwright", "safetensors", "tokenizers", "torch", "transformers", "wandb")
# Modules of this project that were imported while those were forbidden, so that each is imported once.
LIGHT: dict[str, ModuleType] = {}


class Seen(Exception):  # noqa: N818
    """Carries the parser of a script out of the script."""


def parser_of(script: str) -> Parser:
    """Parser of a script or a recipe, with all its flags."""

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
    """All flags of a parser except --help."""
    return [action for action in parser._actions if action.dest != "help"]


PARSERS = {name: parser_of(name) for name in (*sorted(path.name for path in ROOT.glob("*.py")), *RECIPES)}

# Values that no flag of a type accepts.

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

NO_DELIMITERS = ["", "None", ";;", "a", "1", "é", '"', "'", "\n", "\r", "\x01", "\\t", "semi", "tab "]
NO_SENTENCES = ["", " ", "\n\t", "\0", "a\0b"]
NO_TEXTS = ["", ".", "..", "nothing", "a/b", "/abs", "x.doc", "../.txt", "a b.txt", "-x.txt", "missing.txt", "ptb.txt"]
NO_TEXTS += ["../missing.csv", "a\0b.txt", "a\nb.txt", "folder.txt", "x" * 300 + ".txt"]
NO_TOKENIZERS = [".", "..", "../x", "/abs", "a/b/c", "x.json", "outputs", "a b", "a\0b", "a\n", "x" * 300 + ".json"]

NO_READINGS = ["", " ", "means", "Integral", "plug_in", "no prior", "draw", "draws-0", "draws-1001", "draws-08", "1"]
NO_READINGS += ["draws--1", "draws-1.5", "draws 8 8", "draws-8\n", "None", "a\0b"]
NO_COLUMN_TYPES = ["price", "price=", "price=prose", "=", "text=price"]
OF_ITS_OWN = {
    ("prepareDatasets.py", "--DATA"): NO_TEXTS,
    ("prepareDatasets.py", "--TOKENIZER"): NO_TOKENIZERS,
    ("prepareDatasets.py", "--TEXT_COLUMN"): ["text", "nan"],  # any text may be a column's name, but there is no table
    ("prepareDatasets.py", "--LABEL_COLUMN"): ["label"],
    ("prepareDatasets.py", "--ROW_TEMPLATE"): ["{a} is {b}"],
    ("prepareDatasets.py", "--COLUMN_TYPES"): NO_COLUMN_TYPES,
    ("synth", "--DATA"): NO_TEXTS,
    ("synth", "--TEXT_COLUMN"): ["text"],
    ("synth", "--LABEL_COLUMN"): ["label"],
    ("synth", "--ROW_TEMPLATE"): ["{a} is {b}"],
    ("synth", "--COLUMN_TYPES"): NO_COLUMN_TYPES,
    ("paper", "--DATA"): ["nothing"],
    ("rates", "--DATA"): ["nothing"],
}


# Numbers that may be 0, shares of a whole, and numbers that may be negative. All other flags must refuse such values,
# whatever the bounds of their types are.
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
MAY_BE_ZERO |= {"COOLDOWN", "DROPOUT", "KL_WARMUP", "LATENT_TEMPERATURE", "LENGTH_PENALTY", "STRIDE_PERC", "WEIGHTS"}
MAY_BE_ZERO |= {"WORD_DROPOUT"}
MAY_BE_NEGATIVE = {"LOADER_WORKERS", "PRIOR_MU"}


def out_of_range(bounds: Bounds) -> Iterator[str]:
    """Numbers just outside the bounds, and far outside."""
    least = 1 if bounds.kind is int else 1e-6
    for limit, step in ((bounds.low, -least), (bounds.high, least), (bounds.above, 0), (bounds.below, 0)):
        if limit is not None:
            yield str(bounds.kind(limit + step))
    if bounds.low is not None or bounds.above is not None:
        yield "-1000"
    if bounds.no_limit:
        yield "-2"
    yield from (str(2**63), str(-(2**63))) if bounds.kind is int else ("1e31", "-1e31", "1e-31", "-1e-31", "1e-320")


def bad_values(kind: Any) -> list[str]:
    """Values that no flag of a type accepts; empty if the type accepts any text."""
    if isinstance(kind, types.OrNone):
        return [value for value in bad_values(kind.kind) if value not in ("", "None")]
    if isinstance(kind, types.BooleanOr):
        return [value for value in bad_values(kind.kind) if value != "True"]
    if isinstance(kind, types.Bounded):
        return [*NO_NUMBERS, *(NO_INTEGERS if kind.bounds.kind is int else ()), *out_of_range(kind.bounds)]
    return {
        types.boolean: NO_BOOLEANS,
        types.name: NO_NAMES,
        types.base: [name for name in NO_NAMES if name not in (".", "..", "a/b")],
        types.judge: [name for name in NO_NAMES if name not in (".", "..", "a/b")],  # folders, and a name on the hub
        types.folder: NO_FOLDERS,
        types.file: NO_FILES,
        types.address: NO_ADDRESSES,
        types.database: NO_DATABASES,
        types.wandb_project: NO_PROJECTS,
        types.sentence: NO_SENTENCES,
        types.label: ["\0", "a\0"],
        types.delimiter: NO_DELIMITERS,
    }.get(kind, [])


def bad_arguments(script: str, action: argparse.Action) -> list[list[str]]:
    """Command lines that a script refuses because of one flag."""
    flag = action.option_strings[0]
    if action.choices is not None:
        values = ["", " ", "nothing", "1", "nan", "None", "True", *(f"{c} " for c in action.choices)]
        values += [choice.swapcase() for choice in action.choices]
    else:
        values = NO_READINGS if isinstance(action, types.Reading) else bad_values(action.type)
        if isinstance(action.type, types.Bounded):
            values += ["0"] if action.dest not in MAY_BE_ZERO else []
            values += ["-0.5", "-1"] if action.dest not in MAY_BE_NEGATIVE and not action.type.bounds.no_limit else []
            values += ["1.5", "100"] if action.dest in SHARES else []
    values = [*values, *OF_ITS_OWN.get((script, flag), [])]
    assert values, f"OF_ITS_OWN must list values that {flag} of {script} refuses"
    arguments = [[f"{flag}={value}"] for value in values]
    if action.nargs == "+":
        good = good_value(action)
        arguments += [[flag, good, value] for value in values if not value.startswith("-")]
        arguments += [[flag, good, good]] if isinstance(action, types.Distinct) else []
    return [[flag], *arguments]


def good_value(action: argparse.Action) -> str:
    """A value that a flag accepts."""
    if action.choices is not None:
        return next(iter(action.choices))
    if isinstance(action, types.Reading):
        return "integral"
    if action.dest == "DATA" and action.required:
        return "own.txt"
    if action.type is types.column_type:
        return "good=text"
    return "1" if isinstance(action.type, types.Bounded) else "good"


def own_modules() -> dict[str, ModuleType]:
    """Modules of this project that are imported."""
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("pipeline", "models")}


@contextmanager
def light_place(folder: Path) -> Iterator[Path]:
    """Work in a folder with outputs and data, where an import of a slow package is an error."""
    for name in ("outputs/nvib/good/config.json", "data/tiny/statistics.json", "file", "own.csv", "own.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (folder / "folder.txt").mkdir()
    with mock.patch.dict(sys.modules, dict.fromkeys(SLOW)), contextlib.chdir(folder):
        for name in own_modules():
            del sys.modules[name]
        sys.modules.update(LIGHT)
        yield folder
        LIGHT.update(own_modules())


def needed(script: str) -> list[str]:
    """Required arguments of a script, and the folders that it would write to."""
    arguments = [f"{a.option_strings[0]}={good_value(a)}" for a in flags(PARSERS[script]) if a.required]
    places = {"--OUTPUT_DIR": "outputs", "--DATA_DIR": "data"}
    known = {flag for action in flags(PARSERS[script]) for flag in action.option_strings}
    return arguments + [f"{flag}={folder}" for flag, folder in places.items() if flag in known]


def content(folder: Path) -> dict[str, bytes | None]:
    """Content of every file and folder below a folder."""
    found: dict[str, bytes | None] = {}
    for parent, folders, files in os.walk(folder):
        found |= {os.path.join(parent, name): None for name in folders}
        found |= {os.path.join(parent, name): Path(parent, name).read_bytes() for name in files}
    return found


def refusal(place: Path, script: str, *arguments: object) -> str:
    """Error line of a refused command, which prints nothing else and changes no file."""
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
