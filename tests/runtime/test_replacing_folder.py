"""Folders that are replaced as a whole: killed processes, two at once, and failing disks."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runtime.errors import UserError
from pipeline.runtime.files import replacing_folder
from tests.helpers import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to replace, with a file `content` that says `old`."""
    path = tmp_path / "data" / "own"
    path.mkdir(parents=True)
    (path / "content").write_text("old")
    return path


def content(folder: Path) -> str:
    """Read the folder's file; check that nothing else lies in the folder or beside it."""
    assert os.listdir(folder.parent) == [folder.name]
    assert os.listdir(folder) == ["content"]
    return (folder / "content").read_text()


REPLACE = """
import os, signal, sys
from pathlib import Path
from pipeline.runtime.files import replacing_folder

with replacing_folder(Path(sys.argv[1])) as temporary:
    (temporary / "content").write_text("new")
    {body}
"""
KILLED_BETWEEN_THE_RENAMES = """
    replace, done = os.replace, []
    def once(*paths):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(replace(*paths))
    os.replace = once
"""


@pytest.fixture
def start(folder: Path) -> Iterator:
    """Start a process that replaces the folder with one that says `new`."""
    started = []

    def start(body: str) -> subprocess.Popen:
        command = [sys.executable, "-c", REPLACE.format(body=body), folder]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_killed_between_its_renames_is_put_back_by_the_next(folder: Path, start):
    assert start(KILLED_BETWEEN_THE_RENAMES).wait() == -signal.SIGKILL
    assert not folder.exists()
    with pytest.raises(UserError, match="nothing to prepare"), replacing_folder(folder):
        assert (folder / "content").read_text() == "old"
        raise UserError("nothing to prepare")
    assert content(folder) == "old"


def test_a_folder_killed_between_its_renames_may_be_replaced_by_the_next(folder: Path, start):
    start(KILLED_BETWEEN_THE_RENAMES).wait()
    with replacing_folder(folder) as temporary:
        (temporary / "content").write_text("newer")
    assert content(folder) == "newer"


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.startswith("new-"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"), replacing_folder(folder):
        pass
    assert content(folder) == "old"


def test_a_folder_that_a_living_process_writes_is_left_to_it(folder: Path, start):
    process = start('print("ready", flush=True); sys.stdin.readline()')
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match=rf"another process is writing {folder}; wait"), replacing_folder(folder):
        pass
    process.communicate("go on\n")
    assert process.returncode == 0
    assert content(folder) == "new"


def test_a_folder_of_another_plan_that_was_removed_in_part_is_not_continued(tmp_path: Path):
    path = tmp_path / "own"

    def end(plan: str) -> None:
        with pytest.raises(KeyboardInterrupt), replacing_folder(path, plan) as temporary:
            (temporary / "one").write_text(plan)
            (temporary / "two").write_text(plan)
            raise KeyboardInterrupt

    def remove_a_file(folder: Path) -> None:
        (folder / "one").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    end("first")
    child = os.fork()
    if not child:
        shutil.rmtree = remove_a_file
        end("second")
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with replacing_folder(path, "first") as temporary:
        assert not os.listdir(temporary)
