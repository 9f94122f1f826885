"""Preparation in shards: equal to one shard, and resumed after an interruption."""

import os
import shutil
from pathlib import Path

import datasets
import pytest

from pipeline.data import prepare as preparation
from pipeline.data import shards
from pipeline.data.dataset import PreparedData, load_prepared
from pipeline.data.documents import Split
from pipeline.data.prepare import PreparationSettings, prepare
from pipeline.data.text_source import TextSource
from tests.helpers import text

SETTINGS = PreparationSettings("wordpiece", 200, "paper")
COUNT = 400  # documents, of some 45 bytes each


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of about 70 documents."""
    for module in (shards, preparation):
        monkeypatch.setattr(module, "SHARD_BYTES", 3000)


def own_text(folder: Path, seed: int = 0) -> Path:
    path = folder / "own.txt"
    path.write_text(text(COUNT, seed))
    return path


def prepared(source: Path, data_dir: Path, accept_loss: bool = False) -> PreparedData:
    prepare(TextSource(str(source), Split(0.1, 0.1, 0)), "own", data_dir, SETTINGS, accept_loss)
    return load_prepared(data_dir, "own")


def content(data: PreparedData) -> dict[str, list]:
    return {name: [part["text"][:], part["input_ids"][:], part["length"][:]] for name, part in data.splits.items()}


def test_shards_hold_what_one_shard_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = own_text(tmp_path)
    one = prepared(source, tmp_path / "one")
    monkeypatch.setattr(shards, "SHARD_BYTES", 3000)
    many = prepared(source, tmp_path / "many")
    assert (one.statistics["shards"], len(list((tmp_path / "one/own/dataset/train").glob("*.arrow")))) == (1, 1)
    assert many.statistics["shards"] > 4
    assert len(list((tmp_path / "many/own/dataset/train").glob("*.arrow"))) == many.statistics["shards"]
    assert content(one) == content(many)
    assert one.length_distribution == many.length_distribution
    assert {name: one.statistics[name] for name in one.splits} == {name: many.statistics[name] for name in many.splits}
    # Whoever has the library reads it without this project.
    assert datasets.load_from_disk(str(tmp_path / "many/own/dataset"))["test"].num_rows == len(many.splits["test"])


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("place", [0, 200, COUNT])
def test_a_shard_without_a_sentence_changes_nothing(tmp_path: Path, place: int):
    source = own_text(tmp_path)
    lines = source.read_text().splitlines(keepends=True)
    headings = [" = A heading is no sentence = \n"] * 300
    source.write_text("".join(lines[:place] + headings + lines[place:]))
    data = prepared(source, tmp_path / "data", accept_loss=True)
    assert data.statistics["texts"]["dropped"] == {"empty after cleaning": len(headings)}
    texts = {sentence for split in data.splits.values() for sentence in split["text"]}
    assert len(texts) == COUNT
    assert not any("heading" in sentence for sentence in texts)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("ended_at", [1, 3, 7, 9, "tokenizer", "move", "removal"])
def test_an_interrupted_preparation_resumes_after_its_last_complete_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_at: int | str
):
    """Interrupt in a shard, in the training of the tokenizer, and while files are moved or those of work removed."""
    source, done = own_text(tmp_path), []
    whole = prepared(source, tmp_path / "whole")
    mapped, train, replace, remove = preparation.mapped, preparation.train_wordpiece, os.replace, shutil.rmtree

    def map_or_end(*arguments: object) -> object:
        done.append("shard")
        if ended_at == len(done):
            raise KeyboardInterrupt
        return mapped(*arguments)

    def train_or_end(*arguments: object, **more: object) -> object:
        if ended_at == "tokenizer":
            raise KeyboardInterrupt
        return train(*arguments, **more)

    def move_or_end(source: Path, target: Path) -> None:
        if ended_at == "move" and "00002-of" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    def remove_or_end(folder: Path, *arguments: object, **more: object) -> None:
        if ended_at == "removal" and (Path(folder) / "sentences").exists():
            remove(Path(folder) / "sentences")
            raise KeyboardInterrupt
        remove(folder, *arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparation, "mapped", map_or_end)
        patch.setattr(preparation, "train_wordpiece", train_or_end)
        patch.setattr(os, "replace", move_or_end)
        patch.setattr(shutil, "rmtree", remove_or_end)
        prepared(source, tmp_path / "ended")
    assert os.listdir(tmp_path / "ended") == [".own.partial"]
    # The last one was ended. Without its folder of work, a preparation begins anew.
    finished = 0 if ended_at == "removal" else len(done) - isinstance(ended_at, int)
    ended_at = None
    done.clear()
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "mapped", map_or_end)
        ended = prepared(source, tmp_path / "ended")
    assert len(done) == 2 * whole.statistics["shards"] - finished
    assert os.listdir(tmp_path / "ended") == ["own"]
    assert ended.fingerprint == whole.fingerprint
    assert content(ended) == content(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_what_was_ended_is_not_continued_with_other_text_or_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, count = own_text(tmp_path), []
    mapped = preparation.mapped

    def map_or_end(*arguments: object) -> object:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return mapped(*arguments)

    monkeypatch.setattr(preparation, "mapped", map_or_end)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / "data")
    own_text(tmp_path, seed=1)
    found = prepared(source, tmp_path / "data")
    assert found.fingerprint == prepared(source, tmp_path / "other").fingerprint
    assert len(count) == 3 + 4 * found.statistics["shards"]


def test_the_checksums_of_a_large_corpus_stop_at_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pipeline.runtime import files
    from pipeline.runtime.errors import UserError
    from pipeline.runtime.files import read_record

    monkeypatch.setattr(files, "HASHED_BYTES", 5_000)
    for name, size in (("small", 10), ("middle", 4_000), ("large", 4_001)):
        (tmp_path / name).write_bytes(b"x" * size)
    files.write_checksums(tmp_path)
    known = read_record(tmp_path / files.CHECKSUMS, "")["files"]
    assert {name for name, by in known.items() if "sha256" in by} == {"small", "middle"}
    files.check_files(tmp_path, "prepare")
    (tmp_path / "large").write_bytes(b"x" * 4_000)
    with pytest.raises(UserError, match="large is damaged"):
        files.check_files(tmp_path, "prepare")
