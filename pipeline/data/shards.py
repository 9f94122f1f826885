"""Datasets in shards, between the steps of a preparation; each shard is on disk whole or not at all.

`<folder>/00000/` and so on hold a shard's splits as Hugging Face Datasets, and `record.json`. After a kill, the next
process resumes after the last complete shard.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
from datasets import Dataset

from pipeline.data.documents import SPLITS, Document
from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.signals import end_forks_with_parent

SHARD_BYTES = 2**23  # text of a shard; memory holds a few times as much
PARALLEL_BYTES = 2**19  # text from which further processes are faster
PART = "part"  # column with the index of a row's split in `SPLITS`
ROWS = 1000  # rows of a batch that is read at once
ARROW = "data-00000-of-00001.arrow"
REMEDY = "remove the folder and prepare the data anew"


class Shards:
    """A folder of shards, to which shards are appended.

    Args:
        folder: folder of the shards; created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.records: list[dict[str, Any]] = []
        while (self.place(len(self.records)) / "record.json").exists():
            self.records.append(read_json(self.place(len(self.records)) / "record.json", REMEDY))

    def place(self, number: int) -> Path:
        """Return the folder of a shard."""
        return self.folder / f"{number:05d}"

    @property
    def complete(self) -> bool:
        """True if all shards are written."""
        return (self.folder / "complete.json").exists()

    def finish(self) -> None:
        """Mark the shards as complete."""
        write_json(self.folder / "complete.json", {"shards": len(self.records)})

    def append(self, rows: Dataset, record: dict[str, Any]) -> None:
        """Write a shard of rows, whose column `part` holds the index of their split, and its record."""
        new = self.folder / "next"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        parts = np.asarray(rows.with_format("numpy")[PART][:])
        for number, name in enumerate(SPLITS):
            chosen = np.flatnonzero(parts == number)
            if len(chosen):
                rows.select(chosen).remove_columns(PART).save_to_disk(str(new / name), num_shards=1)
        write_json(new / "record.json", record)
        os.replace(new, self.place(len(self.records)))
        self.records.append(record)

    def rows(self, number: int) -> Dataset:
        """Load a shard's rows of all splits, in the form that `append` takes."""
        parts = []
        for part, name in enumerate(SPLITS):
            if (self.place(number) / name).exists():
                rows = Dataset.load_from_disk(str(self.place(number) / name))
                parts.append(rows.add_column(PART, [part] * len(rows)))
        return datasets.concatenate_datasets(parts) if parts else Dataset.from_dict({"text": [], PART: []})

    def texts(self, name: str) -> Iterator[str]:
        """Read the texts of a split; memory holds one batch at a time."""
        for number in range(len(self.records)):
            if (folder := self.place(number) / name).exists():
                for rows in Dataset.load_from_disk(str(folder)).iter(ROWS):
                    yield from cast(dict[str, list[str]], rows)["text"]

    def drop(self, number: int) -> None:
        """Remove a shard's rows and keep its record."""
        for name in SPLITS:
            shutil.rmtree(self.place(number) / name, ignore_errors=True)

    def move_to(self, folder: Path, fingerprint: str) -> None:
        """Move all shards into one `DatasetDict` on disk, an Arrow file for each; resume an interrupted move."""
        for name in SPLITS:
            numbers = [n for n in range(len(self.records)) if (self.place(n) / name).exists()]
            files = [f"data-{n:05d}-of-{len(numbers):05d}.arrow" for n in range(len(numbers))]
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number, file in zip(numbers, files, strict=True):
                if (source := self.place(number) / name / ARROW).exists():
                    os.replace(source, folder / name / file)
            first = self.place(numbers[0]) / name
            state = {"_data_files": [{"filename": file} for file in files], "_fingerprint": fingerprint[:16]}
            write_json(folder / name / "state.json", read_json(first / "state.json", REMEDY) | state)
            write_json(folder / name / "dataset_info.json", read_json(first / "dataset_info.json", REMEDY))
        write_json(folder / "dataset_dict.json", {"splits": list(SPLITS)})


def grouped(documents: Iterable[Document]) -> Iterator[tuple[Dataset, int]]:
    """Group documents into shards of at least `SHARD_BYTES` of text; yield each with the bytes of its text."""
    group: list[Document] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document.text.encode())
        if size >= SHARD_BYTES:
            rows, group = _dataset(group), []
            yield rows, size
            size = 0
    if group:
        yield _dataset(group), size


def _dataset(group: list[Document]) -> Dataset:
    columns = {PART: datasets.Value("int8"), "text": datasets.Value("string"), "label": datasets.Value("string")}
    rows = dict(zip(columns, map(list, zip(*group, strict=True)), strict=True))
    return Dataset.from_dict(rows, features=datasets.Features(columns))


def mapped(
    rows: Dataset, function: Callable[[dict[str, list]], dict[str, list]], columns: dict[str, Any], file: Path
) -> Dataset:
    """Apply a function to a shard, batch by batch, on all processors if the shard is large.

    Args:
        rows: rows of a shard.
        function: maps the columns of a batch to new columns.
        columns: types of the new columns, by name.
        file: Arrow file for the result.
    """
    if not len(rows):  # for no rows, `map` would return the old columns
        return Dataset.from_dict({name: [] for name in columns}, features=datasets.Features(columns))
    end_forks_with_parent()
    large = len(rows) > 1 and rows.data.nbytes >= PARALLEL_BYTES
    return rows.map(
        function,
        batched=True,
        remove_columns=rows.column_names,
        features=datasets.Features(columns),
        num_proc=min(len(os.sched_getaffinity(0)), len(rows)) if large else None,
        cache_file_name=str(file),
        load_from_cache_file=False,
        new_fingerprint=file.stem,
    )
