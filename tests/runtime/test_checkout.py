"""The root folder and the commit that results are recorded with."""

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.runtime import checkout
from tests.helpers import ROOT


def test_the_root_is_found_from_any_depth(tmp_path: Path):
    (tmp_path / "pyproject.toml").touch()
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert checkout.find_root(deep) == checkout.find_root(tmp_path) == tmp_path
    assert checkout.ROOT == ROOT


def test_a_folder_outside_a_checkout_is_an_error_that_names_the_marker(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"no pyproject\.toml"):
        checkout.find_root(tmp_path)


def test_the_commit_is_the_one_of_the_checkout_and_marks_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / "file").write_text("1")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", first := checkout.commit())
    (tmp_path / "file").write_text("2")
    assert checkout.commit() == f"{first}+changes"
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "elsewhere")
    assert checkout.commit() == "unknown"
