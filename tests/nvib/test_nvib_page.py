"""docs/nvib.md and the docstrings of nvib: examples run, and every public name is documented."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

import nvib
from tests.helpers import ROOT

FOLDER = Path(nvib.__file__).parent
PAGE = (ROOT / "docs" / "nvib.md").read_text()
SECTIONS = [section.partition("\n") for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)]
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [(title, code) for title, _, body in SECTIONS for code in CODE.findall(body)]


def test_the_page_has_three_examples():
    assert [title for title, _ in EXAMPLES] == [
        "A drop-in cross-attention",
        "A stack of self-attention",
        "Converting a model",
    ]


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_runs(title: str, code: str, capsys: pytest.CaptureFixture[str]):
    names: dict = {}
    exec(compile(code, f"nvib.md: {title}", "exec"), names)
    if title == "A drop-in cross-attention":
        assert names["output"].shape == (2, 5, 32)
        assert all(p.grad is not None for p in names["attention"].parameters())
    elif title == "A stack of self-attention":
        assert [kept.shape for kept in names["kept"]] == [(2,)] * 3
    else:
        first, *rest = capsys.readouterr().out.splitlines()
        moved = [float(line.split()[-1]) for line in rest]
        assert first.split() == ["as", "before:", "True"]
        assert 0 < moved[0] < moved[-1]


def test_every_public_name_is_on_the_page_and_has_a_docstring():
    for name in nvib.__all__:
        assert re.search(rf"`{name}`", PAGE), name
        assert inspect.getdoc(getattr(nvib, name)), name


def test_every_public_method_has_a_docstring():
    for name in nvib.__all__:
        public = getattr(nvib, name)
        for method, value in vars(public).items() if inspect.isclass(public) else ():
            if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{method}"


def test_a_docstring_names_every_argument_the_errors_and_the_source():
    for name in nvib.__all__:
        public = getattr(nvib, name)
        methods = vars(public).items() if inspect.isclass(public) else ()
        functions = {f"{name}.{m}": f for m, f in methods if inspect.isfunction(f) and not m.startswith("_")}
        for path, function in {name: public, **functions}.items():
            doc = inspect.getdoc(function)
            assert doc.partition("\n")[0].endswith((".", "`")), path
            parameters = set(inspect.signature(function).parameters) - {"self"}
            for parameter in parameters:
                assert re.search(rf"^ +(\w+, )*{parameter}(, \w+)*: ", doc, re.MULTILINE), f"{path}: {parameter}"
            if parameters and path != "Prior.concentration":
                assert "Raises:" in doc, path
        assert re.search(r"& (Fehr|Henderson)\s\(?20\d\d", inspect.getdoc(public)), name


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules([str(FOLDER)]) if m.name != "hugging_face"])
def test_docstring_examples_hold(module: str):
    everything = {**vars(nvib), "torch": torch, "nn": torch.nn}
    tested = importlib.import_module(f"nvib.{module}")
    results = doctest.testmod(tested, extraglobs=everything)
    assert results.failed == 0
    assert results.attempted == inspect.getsource(tested).count(">>> ")


def test_the_page_shows_a_figure_with_a_pseudo_count_for_each_token():
    assert "](method.svg)" in PAGE
    root = ElementTree.parse(ROOT / "docs" / "method.svg").getroot()
    said = [text for text in map(str.strip, root.itertext()) if text]
    assert said[0] == "From the vectors of a text to a mixture distribution to attention"
    for letter, first in (("h", 1), ("α", 0)):
        assert [name for name in said if name[0] == letter and len(name) == 2] == [
            f"{letter}{'₀₁₂₃₄₅'[number]}" for number in range(first, 6)
        ]


def test_the_library_imports_torch_alone():
    """Nothing but nvib and the standard library is loaded once torch is; None in sys.modules makes an import fail."""
    others = ("transformers", "scipy", "datasets", "accelerate", "models", "pipeline")
    code = (
        f"import sys, torch; sys.modules.update(dict.fromkeys({others})); before = set(sys.modules); import nvib\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=FOLDER.parent, check=True, capture_output=True, text=True).stdout
    assert loaded.split() == ["nvib"]
