"""Datasets in shards, between the steps of preparing a corpus: each is on disk whole, or not there.

`<folder>/00000/` and so on hold a shard's splits as Hugging Face Datasets and `record.json`; whoever comes after a
process that was killed goes on behind the last of them.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.sources import SPLITS, Document
from pipeline.runtime.files import read_json, write_json
from pipeline.runtime.signals import end_forks_with_parent

if TYPE_CHECKING:
    from datasets import Dataset

SHARD_BYTES = 2**23  # of a shard's documents: what memory holds at a time, several times over
PARALLEL_BYTES = 2**19  # of text, from which further processes pay
PART = "part"  # the column that numbers a row's split
ARROW = "data-00000-of-00001.arrow"
REMEDY = "remove the folder and prepare the data anew"


class Shards:
    """A folder of shards, which grows at its end.

    Args:
        folder: is made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.records: list[dict[str, Any]] = []
        while (self.place(len(self.records)) / "record.json").exists():
            self.records.append(read_json(self.place(len(self.records)) / "record.json", REMEDY))

    def place(self, number: int) -> Path:
        """The folder of a shard."""
        return self.folder / f"{number:05d}"

    @property
    def complete(self) -> bool:
        """Whether all shards are there."""
        return (self.folder / "complete.json").exists()

    def finish(self) -> None:
        """Say that all shards are there."""
        write_json(self.folder / "complete.json", {"shards": len(self.records)})

    def append(self, rows: "Dataset", record: dict[str, Any]) -> None:
        """A shard more, out of rows whose column `part` numbers their split."""
        import numpy as np

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

    def rows(self, number: int) -> "Dataset":
        """A shard's rows, of all splits, in the form that `append` takes."""
        import datasets

        parts = []
        for part, name in enumerate(SPLITS):
            if (self.place(number) / name).exists():
                rows = datasets.load_from_disk(str(self.place(number) / name))
                parts.append(rows.add_column(PART, [part] * len(rows)))
        return datasets.concatenate_datasets(parts) if parts else datasets.Dataset.from_dict({"text": [], PART: []})

    def texts(self, name: str) -> Iterator[str]:
        """The texts of a split, a batch in memory at a time."""
        import datasets

        for number in range(len(self.records)):
            if (folder := self.place(number) / name).exists():
                for rows in datasets.load_from_disk(str(folder)).iter(1000):
                    yield from rows["text"]

    def drop(self, number: int) -> None:
        """Remove a shard's rows; its record stays."""
        for name in SPLITS:
            shutil.rmtree(self.place(number) / name, ignore_errors=True)

    def move_to(self, folder: Path, fingerprint: str) -> None:
        """Make of all shards one `DatasetDict` on disk, an Arrow file each; a move that was cut short goes on."""
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


def grouped(documents: Iterable[Document]) -> Iterator[tuple["Dataset", int]]:
    """Documents, so many at a time that they fill a shard, each time with the bytes of their text."""
    group, size = [], 0
    for document in documents:
        group.append(document)
        size += len(document.text.encode())
        if size >= SHARD_BYTES:
            rows, group = _dataset(group), []
            yield rows, size
            size = 0
    if group:
        yield _dataset(group), size


def _dataset(group: list[Document]) -> "Dataset":
    import datasets

    columns = {PART: datasets.Value("int8"), "text": datasets.Value("string"), "label": datasets.Value("string")}
    rows = dict(zip(columns, map(list, zip(*group, strict=True)), strict=True))
    return datasets.Dataset.from_dict(rows, features=datasets.Features(columns))


def mapped(
    rows: "Dataset", function: Callable[[dict[str, list]], dict[str, list]], columns: dict[str, Any], file: Path
) -> "Dataset":
    """A function of batches of rows over a shard, on all processors where that pays.

    Args:
        rows: of a shard.
        function: from columns to columns.
        columns: of the result, with their types.
        file: that holds the result.
    """
    import datasets

    if not len(rows):  # the library would give back the columns that it took
        return datasets.Dataset.from_dict({name: [] for name in columns}, features=datasets.Features(columns))
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
