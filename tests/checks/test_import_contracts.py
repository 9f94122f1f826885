"""The import contracts of pyproject.toml, on a small tree with the project's packages: each broken one is reported."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

MODULES = (
    "nvib/layer.py",
    "nvib/hugging_face.py",
    "models/registry.py",
    "models/settings.py",
    *(
        f"pipeline/{room}/{room}_module.py"
        for room in (
            "runtime",
            "data",
            "experiments",
            "training",
            "generation",
            "evaluation",
            "reporting",
            "recipes",
            "cli",
        )
    ),
)
ALLOWED = {  # imports that keep every contract
    "nvib/layer.py": "import math\nimport torch",
    "nvib/hugging_face.py": "import transformers",
    "models/registry.py": "import torch\nfrom models import settings\nfrom nvib import layer",
    "pipeline/data/data_module.py": "import numpy\nfrom pipeline.runtime import runtime_module",
    "pipeline/cli/cli_module.py": "from models import registry\nfrom pipeline.recipes import recipes_module",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with the real contracts and a module in each package, whose imports keep them."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "checks", tmp_path / "checks", ignore=shutil.ignore_patterns("__pycache__"))
    for name in MODULES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ALLOWED.get(name, "") + "\n")
        for folder in (path.parent, *path.parent.relative_to(tmp_path).parents):
            if folder != Path():
                (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run what `make lint` runs."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_allowed_imports_keep_every_contract(tree: Path):
    finished = lint(tree)
    assert finished.returncode == 0, finished.stdout
    assert "Contracts: 6 kept, 0 broken." in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "contracts", "reported"),
    [
        (
            "pipeline/data/data_module.py",
            "from pipeline.training import training_module",
            ["a room imports only rooms to its left"],
            r"pipeline\.data\.data_module -> pipeline\.training\.training_module \(l\.3\)",
        ),
        (
            "models/settings.py",
            "from pipeline.runtime import runtime_module",
            ["pipeline imports models, models imports nvib", "models imports torch and nvib alone"],
            r"models\.settings -> pipeline\.runtime\.runtime_module \(l\.2\)",
        ),
        (
            "pipeline/data/data_module.py",
            "def later():\n    from nvib import layer",
            ["runtime and data know no models"],
            r"pipeline\.data\.data_module -> nvib\.layer \(l\.4\)",
        ),
        (
            "models/settings.py",
            "from models import registry",
            ["modules of one package import each other without a circle"],
            r"No cycles are allowed in models\.\n.*\n\n- \.(registry -> \.settings|settings -> \.registry)",
        ),
        ("nvib/layer.py", "import numpy.linalg", ["nvib imports torch alone"], r"nvib\.layer -> numpy \(line 3\)"),
        (
            "nvib/layer.py",
            "def later():\n    import transformers",
            ["nvib imports torch alone"],
            r"nvib\.layer -> transformers \(line 4\)",
        ),
        (
            "models/settings.py",
            "import scipy",
            ["models imports torch and nvib alone"],
            r"models\.settings -> scipy \(line 2\)",
        ),
    ],
    ids=["room", "package", "models-in-data", "circle", "foreign", "exception-elsewhere", "foreign-in-models"],
)
def test_a_broken_contract_is_reported_with_both_modules(
    tree: Path, module: str, line: str, contracts: list[str], reported: str
):
    with (tree / module).open("a") as file:
        file.write(f"{line}\n")
    finished = lint(tree)
    assert finished.returncode == 1, finished.stdout
    broken = [said.removesuffix(" BROKEN") for said in finished.stdout.splitlines() if said.endswith(" BROKEN")]
    assert broken == contracts
    assert re.search(reported, finished.stdout), finished.stdout
