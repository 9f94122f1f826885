"""Own texts that ship inside packages: what is read of them, and what is refused."""

import csv
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import package_texts
from pipeline.runtime.errors import UserError

INSIDE = {
    "randfacts": (
        "randfacts/safe.txt",
        "A cat has four legs.\nA cat has four legs.\nShort\nSnow is  white in winter.\n",
    ),
    "chatterbot-corpus": (
        "chatterbot_corpus/data/english/ai.yml",
        "conversations:\n- - What is an AI?\n  - What is an answer here?\n- - I am no question.\n  - No.\n",
    ),
}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that has the two packages."""

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        name, text = INSIDE[command[-1].split("==")[0]]
        with zipfile.ZipFile(Path(command[-2]) / "package.whl", "w") as package:
            package.writestr(name, text)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)


@pytest.mark.usefixtures("registry")
def test_each_file_has_distinct_texts_of_a_proper_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(package_texts.SOURCES, "news", lambda: iter(["The rain fell all day.", "No."]))
    monkeypatch.setattr(sys, "argv", ["package_texts", "--FOLDER", str(tmp_path)])
    package_texts.main()
    read = {path.stem: [row["text"] for row in csv.DictReader(path.open())] for path in tmp_path.glob("*.csv")}
    assert sorted(read["facts"]) == ["A cat has four legs.", "Snow is white in winter."]
    assert read["questions"] == ["What is an AI?"]  # neither an answer nor a statement
    assert read["news"] == ["The rain fell all day."]


@pytest.mark.slow
def test_news_are_whole_sentences():
    first, second, *_ = package_texts.news()
    assert first.startswith("Hundreds of people have been forced to vacate their homes in the Southern Highlands")
    assert first.endswith("towards the town of Hill Top.")
    assert second.startswith("A new blaze near Goulburn, south-west of Sydney,")


def test_a_text_is_drawn_once_and_the_same_each_time():
    texts = [f"this is text number {number}" for number in range(50)]
    drawn = package_texts.drawn(texts * 2, 20)
    assert len(set(drawn)) == 20
    assert drawn == package_texts.drawn(texts, 20)


def test_an_unreachable_registry_is_one_line(monkeypatch: pytest.MonkeyPatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=r"pip cannot download randfacts==.*: ERROR: No matching distribution"):
        package_texts.wheel(package_texts.FACTS)
