"""Prepared data on disk: `data/<DATA>/`, written by preparation, read by everything after it.

    dataset/                  an Arrow DatasetDict: text, input_ids, length
    tokenizer/tokenizer.json
    statistics.json           sentences, tokens and lengths of each split, settings, versions, fingerprint
    length_distribution.json  training sentences by length
    length_distribution.png
    checksums.json            sizes and SHA-256 of all these

`input_ids` is `[CLS] x_1 … x_{n-1} [SEP]`; `length` is n, the tokens that a model encodes and predicts: the end
token counts, the start token does not.
"""

import bisect
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.checksums import check_files, write_checksums
from pipeline.corpora import SPLITS, Split, documents
from pipeline.errors import UserError
from pipeline.files import read_json, replacing_folder, write_json
from pipeline.interruption import forks_end_with_it
from pipeline.preprocessing import split_document
from pipeline.tokenization import TextTokenizer, load_tokenizer, train_wordpiece

if TYPE_CHECKING:
    from datasets import Dataset

IN_PARALLEL = 2000  # documents or sentences from which a second process pays


@dataclass(frozen=True)
class PreparationSettings:
    """How text is prepared.

    Args:
        tokenizer: hub name, folder, `tokenizer.json`, or `wordpiece`: trained on the training split.
        vocabulary_size: of a trained tokenizer.
        clean: `paper` or `none`.
        more_than: sentences have more tokens than this, [CLS] and [SEP] counted.
        fewer_than: sentences have fewer tokens than this, [CLS] and [SEP] counted.
    """

    tokenizer: str
    vocabulary_size: int
    clean: str
    more_than: int = 5
    fewer_than: int = 50


@dataclass(frozen=True)
class PreparedData:
    """A prepared dataset.

    Args:
        splits: `train`, `validation`, `test`, each with `text`, `input_ids`, `length`.
        tokenizer: stored with it.
        statistics: `statistics.json`.
        length_distribution: how many training sentences have each length.
        fingerprint: of all token ids and the tokenizer.
    """

    splits: "dict[str, Dataset]"
    tokenizer: TextTokenizer
    statistics: dict[str, Any]
    length_distribution: dict[int, int]
    fingerprint: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it the same data: how it was prepared, and what came out."""
        return {name: self.statistics.get(name) for name in ("fingerprint", "tokenizer_fingerprint", "settings")}


def load_prepared(data_dir: Path, name: str) -> PreparedData:
    """Load prepared data.

    Raises:
        UserError: it is absent or damaged; the message says how to prepare it.
    """
    folder = Path(data_dir) / name
    remedy = f"prepare it with prepareDatasets.py --DATA {name}"
    if not folder.is_dir():
        known = sorted(path.parent.name for path in Path(data_dir).glob("*/statistics.json"))
        there = f"there are: {', '.join(known)}" if known else f"{data_dir} holds none"
        raise UserError(f"no prepared dataset {name!r} in {data_dir} ({there}); {remedy}")
    check_files(folder, remedy)
    statistics = read_json(folder / "statistics.json", remedy)
    lengths = read_json(folder / "length_distribution.json", remedy)
    tokenizer = load_tokenizer(str(folder / "tokenizer"))

    import datasets

    try:
        splits = dict(datasets.load_from_disk(str(folder / "dataset")))
        return PreparedData(
            {split: splits[split] for split in SPLITS},
            tokenizer,
            statistics,
            {int(length): count for length, count in lengths.items()},
            statistics["fingerprint"],
        )
    except Exception as error:  # Arrow, JSON, missing splits or keys: all mean damage
        raise UserError(f"{folder} is damaged ({' '.join(str(error).split())[:200]}); {remedy}") from None


def difference(trained_on: dict[str, Any], found: dict[str, Any]) -> str:
    """How two identities of data differ, for a message; empty if they do not."""
    if trained_on.get("fingerprint") == found.get("fingerprint"):
        return ""
    old, new = (identity.get("settings") or {} for identity in (trained_on, found))
    told = [f"{name} was {old.get(name)}, not {new.get(name)}" for name in new if old.get(name) != new.get(name)]
    if trained_on.get("tokenizer_fingerprint") != found.get("tokenizer_fingerprint"):
        told.append("another tokenizer")
    return ", ".join(told) or "other text"


def prepare(
    data: str,
    name: str,
    data_dir: Path,
    settings: PreparationSettings,
    split: Split,
    local_path: Path | None = None,
    text_column: str | None = None,
) -> dict[str, Any]:
    """Prepare a corpus as `data_dir/name`, whole or not at all.

    Arrow files on disk and maps over batches keep memory bounded, whatever the corpus.

    Args:
        data: corpus or file.
        name: of the prepared dataset.
        data_dir: folder of all prepared datasets.
        settings: how.
        split: for text without splits of its own.
        local_path: folder with WikiText's files.
        text_column: of a user's table.

    Returns:
        The statistics that were written.

    Raises:
        UserError: the text or tokenizer cannot be had, a split ends without a sentence, or the disk refuses.
    """
    import datasets

    datasets.disable_progress_bars()
    with _disk_errors_told(Path(data_dir)), replacing_folder(Path(data_dir) / name) as folder:
        cache = folder / "cache"
        cache.mkdir()
        # A tokenizer that cannot be had is told of before the long work.
        tokenizer = None if settings.tokenizer == "wordpiece" else load_tokenizer(settings.tokenizer)
        datasets.enable_progress_bars()
        raw = documents(data, local_path, text_column, split, cache)
        # All splits behind one another: a pass over them starts its processes once.
        whole = datasets.concatenate_datasets([raw[part].select_columns(["text"]) for part in SPLITS])
        ends = list(itertools.accumulate(len(raw[part]) for part in SPLITS))
        columns = {"text": datasets.Value("string"), "part": datasets.Value("int8")}
        segmented = _map(
            whole, lambda rows, numbers: _segment(rows, numbers, ends, settings.clean), columns, "sentences", cache
        )
        texts = _apart(segmented)
        if tokenizer is None:
            if not len(texts["train"]):
                raise UserError(f"{data} holds no sentence to train a tokenizer on; bring more text")
            print(f"training a WordPiece tokenizer of {settings.vocabulary_size} tokens", flush=True)
            tokenizer = train_wordpiece(
                _Texts(texts["train"]), settings.vocabulary_size, lower_case=settings.clean == "paper"
            )
        columns |= {"input_ids": datasets.List(datasets.Value("int32")), "length": datasets.Value("int32")}
        encoded = _apart(_map(segmented, lambda rows, _: _encode(rows, tokenizer, settings), columns, "tokens", cache))
        for part, dataset in encoded.items():
            if not len(dataset):
                raise UserError(
                    f"the {part} split of {data} has no sentence of more than {settings.more_than} and fewer than "
                    f"{settings.fewer_than} tokens (of {len(texts[part])}); bring more text or widen the limits"
                )
        datasets.disable_progress_bars()
        datasets.DatasetDict(encoded).save_to_disk(str(folder / "dataset"))
        tokenizer.save(folder / "tokenizer")
        statistics, lengths = _describe(encoded, tokenizer, settings, split)
        write_json(folder / "statistics.json", statistics)
        write_json(folder / "length_distribution.json", {str(length): lengths[length] for length in sorted(lengths)})
        _plot(lengths, name, folder / "length_distribution.png")
        del raw, whole, segmented, texts, encoded  # they keep files of the cache open
        _remove(cache)
        write_checksums(folder)
    return statistics


@contextmanager
def _disk_errors_told(data_dir: Path) -> Iterator[None]:
    """Turn what the file system refuses (no permission, a file in the way, a full disk) into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot prepare data in {data_dir} ({error}); mend that or choose another --DATA_DIR"
        ) from None


def _apart(whole: "Dataset") -> "dict[str, Dataset]":
    """The splits behind one another, each by itself; the column `part` numbers them."""
    import numpy as np

    counts = np.zeros(len(SPLITS), dtype=np.int64)
    for rows in whole.select_columns(["part"]).with_format("numpy").iter(100_000):
        counts += np.bincount(rows["part"], minlength=len(SPLITS))
    ends = counts.cumsum().tolist()
    return {
        part: whole.select(range(end - count, end) if count else []).remove_columns("part")
        for part, count, end in zip(SPLITS, counts.tolist(), ends, strict=True)
    }


def _map(
    whole: "Dataset",
    function: Callable[[dict[str, list], list[int]], dict[str, list]],
    columns: dict[str, Any],
    name: str,
    cache: Path,
) -> "Dataset":
    """A function of batches of rows and their numbers over a dataset, on all processors where that pays."""
    import datasets

    forks_end_with_it()
    return whole.map(
        function,
        batched=True,
        with_indices=True,
        remove_columns=whole.column_names,
        features=datasets.Features(columns),
        num_proc=min(os.cpu_count() or 1, 8) if len(whole) >= IN_PARALLEL else None,
        cache_file_name=str(cache / f"{name}.arrow"),
        new_fingerprint=name,
        desc=name,
    )


def _segment(rows: dict[str, list], numbers: list[int], ends: list[int], clean: str) -> dict[str, list]:
    """Documents to sentences, each with the part that its document is of: the first that ends behind its number."""
    found = [
        (sentence, bisect.bisect_right(ends, number))
        for document, number in zip(rows["text"], numbers, strict=True)
        for sentence in split_document(document or "", clean)
    ]
    return {"text": [sentence for sentence, _ in found], "part": [part for _, part in found]}


def _encode(rows: dict[str, list], tokenizer: TextTokenizer, settings: PreparationSettings) -> dict[str, list]:
    """Sentences to those of the right length, with their ids; one that spells [PAD], [CLS] or [SEP] is left out."""
    ids = tokenizer.encode(rows["text"])
    reserved = {tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
    kept = [
        number
        for number, row in enumerate(ids)
        if settings.more_than < len(row) < settings.fewer_than and reserved.isdisjoint(row[1:-1])
    ]
    return {
        "text": [rows["text"][number] for number in kept],
        "part": [rows["part"][number] for number in kept],
        "input_ids": [ids[number] for number in kept],
        "length": [len(ids[number]) - 1 for number in kept],
    }


class _Texts:
    """The texts of a dataset, a batch in memory at a time, as often as they are asked for."""

    def __init__(self, dataset: "Dataset") -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[str]:
        for rows in self.dataset.iter(1000):
            yield from rows["text"]


def _describe(
    encoded: "dict[str, Dataset]", tokenizer: TextTokenizer, settings: PreparationSettings, split: Split
) -> tuple[dict[str, Any], Counter]:
    import dataclasses
    import importlib.metadata

    own = hashlib.sha256(tokenizer.tokenizer.to_str().encode())
    digest = own.copy()
    described, lengths = {}, Counter()
    for part, dataset in encoded.items():
        values: Counter = Counter()
        for rows in dataset.with_format("arrow").iter(10_000):
            values.update(rows["length"].to_pylist())
            for ids in rows["input_ids"].chunks:
                digest.update(ids.flatten().to_numpy())
        count, tokens = sum(values.values()), sum(length * number for length, number in values.items())
        described[part] = {
            "sentences": count,
            "tokens": tokens,
            "mean_length": tokens / count,
            "min_length": min(values),
            "max_length": max(values),
        }
        if part == "train":
            lengths = values
    # Where a tokenizer lay is no part of what it is.
    kept = dataclasses.asdict(settings) | {"tokenizer": Path(settings.tokenizer).name}
    return {
        **described,
        "vocabulary_size": tokenizer.vocabulary_size,
        "settings": kept | {"split": dataclasses.asdict(split)},
        "fingerprint": digest.hexdigest(),
        "tokenizer_fingerprint": own.hexdigest(),
        "versions": {name: importlib.metadata.version(name) for name in ("datasets", "tokenizers", "nupunkt")},
    }, lengths


def _plot(lengths: Counter, name: str, path: Path) -> None:
    from pipeline.plots import figure

    with figure(path) as axes:
        axes.bar(list(lengths), list(lengths.values()), width=1.0, color="#4477aa")
        axes.set(title=f"{name}: training sentences by length", xlabel="tokens, end token counted", ylabel="sentences")


def _remove(cache: Path) -> None:
    import shutil

    shutil.rmtree(cache, ignore_errors=True)
