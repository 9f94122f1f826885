"""Preparation of a text of any size as `data/<DATA>/` (see `pipeline.data.dataset`), one shard at a time."""

import dataclasses
import hashlib
import importlib.metadata
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import nupunkt

from pipeline.data.dataset import difference
from pipeline.data.documents import SPLITS
from pipeline.data.encoding import CUT, DROPPED, Kept, encode, measured, segment
from pipeline.data.preparation_settings import BPE, LOSSLESS, TABLE, TRAINED, WORDPIECE, PreparationSettings
from pipeline.data.pretrained_tokenizer import PretrainedTokenizer
from pipeline.data.round_trip import round_trip
from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.data.shards import PART, REMEDY, SHARD_BYTES, Shards, grouped, mapped
from pipeline.data.text_source import TextSource
from pipeline.data.tokenizer import FILE, TextTokenizer, load_tokenizer, tokenizer_file, train_bpe, train_wordpiece
from pipeline.runtime.errors import UnfinishedError, UserError
from pipeline.runtime.files import read_json, remove_folder, replacing_folder, write_checksums, write_json
from pipeline.runtime.plotting import figure
from pipeline.runtime.progress import bar

LABELS = 1000  # distinct labels at most


def prepare(
    source: TextSource,
    name: str,
    data_dir: Path,
    settings: PreparationSettings,
    accept_loss: bool = False,
    replace: bool = True,
) -> dict[str, Any]:
    """Prepare a text as `data_dir/name`, whole or not at all.

    Documents become sentences and sentences tokens, one shard at a time: memory holds one shard, whatever the size of
    the text. After a kill, a call with the same arguments resumes after the last complete shard.

    Args:
        source: text to prepare.
        name: name of the prepared dataset.
        data_dir: folder of all prepared datasets.
        settings: tokenizer, cleaning and limits of length.
        accept_loss: True allows that more than a fifth of a user's own text is outside the limits.
        replace: False keeps a dataset of this name that has other tokens, on which models may have been trained.

    Returns:
        The statistics, as `statistics.json` holds them.

    Raises:
        UserError: the text or the tokenizer is not available, a split has no sentence, more than a fifth of a user's
            own text would be lost, another dataset is not to be replaced, or the disk fails.
    """
    datasets.disable_progress_bars()
    # A missing tokenizer is reported before the long work.
    tokenizer = None if settings.tokenizer in TRAINED else load_tokenizer(settings.tokenizer)
    lossless = settings.tokenizer in LOSSLESS if tokenizer is None else tokenizer.lossless
    if isinstance(tokenizer, PretrainedTokenizer) and not lossless:
        print(f"the tokenizer {settings.tokenizer} may change white space and rare characters of a text", flush=True)
    source = dataclasses.replace(source, lossless=lossless)
    settings = dataclasses.replace(settings, own=source.is_own)
    with (
        _disk_errors(Path(data_dir)),
        replacing_folder(Path(data_dir) / name, _plan(source, settings)) as folder,
    ):
        work = folder / "work"
        segmented, encoded = Shards(work / "sentences"), Shards(work / "tokens")
        found = _once(work / "survey.json", source.survey)
        if not segmented.complete:
            try:
                _segment_all(source, settings, segmented, work, found)
            except UnfinishedError as error:
                raise error if segmented.records else UserError(str(error)) from None
        tokenizer = tokenizer or _trained(segmented, source, settings, work, found["columns"])
        tokenizer.add_labels(_labels(segmented, source))
        if not encoded.complete:
            _encode_all(segmented, tokenizer, settings, encoded, work)
        kept = Kept.of(encoded.records)
        if settings.own and not accept_loss:
            kept.check(source.data, settings)
        _check_splits(segmented, encoded, source, settings)
        tokenizer.save(folder / "tokenizer")
        statistics, lengths = _describe(encoded, tokenizer, settings, source)
        if not replace:
            _check_same(Path(data_dir) / name, statistics)
        statistics["source"] = source.described(found["columns"])
        statistics["texts"] = {name: found[name] for name in ("rows", "without_text")} | kept.to_json()
        statistics["texts"]["remedies"] = kept.remedies(settings)
        statistics["labels_without_training"] = [one for one in tokenizer.labels if one not in statistics["labels"]]
        if settings.own:
            stored = load_tokenizer(str(folder / "tokenizer"))
            statistics["round_trip"] = round_trip(source, found["columns"], stored, settings, folder).to_json()
        encoded.move_to(folder / "dataset", statistics["fingerprint"])
        write_json(folder / "statistics.json", statistics)
        write_json(folder / "length_distribution.json", {str(length): lengths[length] for length in sorted(lengths)})
        _plot(lengths, name, folder / "length_distribution.png")
        remove_folder(work)  # a part of it would be taken for the work of an ended process
        write_checksums(folder)
    return statistics


@contextmanager
def _disk_errors(data_dir: Path) -> Iterator[None]:
    """Turn errors of the file system (no permission, a file in the way, a full disk) into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot prepare data in {data_dir} ({error}); fix the cause or choose another --DATA_DIR"
        ) from None


def _plan(source: TextSource, settings: PreparationSettings) -> dict[str, Any]:
    """Return everything that determines the result; a preparation resumes only under an equal plan."""
    files = source.files
    if settings.tokenizer not in TRAINED and (file := tokenizer_file(settings.tokenizer)) is not None:
        files.append(file)
    return {
        "files": [
            [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()
        ],
        "source": source.settings(),
        "settings": dataclasses.asdict(settings),
        "shard_bytes": SHARD_BYTES,
        "versions": _versions(),
    }


def _columns(labelled: bool) -> dict[str, Any]:
    """Return the columns of a shard of sentences, with their types."""
    columns = {"text": datasets.Value("string"), PART: datasets.Value("int8")}
    return columns | ({"label": datasets.Value("string")} if labelled else {})


def _segment_all(
    source: TextSource, settings: PreparationSettings, shards: Shards, work: Path, found: dict[str, Any]
) -> None:
    """Split all documents into sentences, from the first document that no complete shard holds."""
    nupunkt.sent_spans("This loads the model. Forked processes inherit it.")
    done = [sum(record[quantity] for record in shards.records) for quantity in ("documents", "bytes")]
    columns = _columns(labelled=source.label_column is not None)
    with bar(total=found["bytes"], initial=done[1], desc="sentences", unit="B", unit_scale=True) as shown:
        for rows, size in grouped(itertools.islice(source.documents(found["columns"]), done[0], None)):
            sentences = mapped(rows, lambda rows: _segment(rows, settings, columns), columns, work / "sentences.arrow")
            counts = Counter(sentences[PART][:])
            shards.append(
                sentences,
                {
                    "documents": len(rows),
                    "bytes": size,
                    "sentences": [counts[number] for number in range(len(SPLITS))],
                    "labels": sorted(sentences.unique("label")) if "label" in columns else [],
                },
            )
            del rows, sentences  # free the memory before the next shard is read
            shown.update(size)
    shards.finish()


def _once(path: Path, compute: Callable[[], Any]) -> Any:
    """Return what an earlier process computed and left in the file, or compute it now."""
    if not path.exists():
        write_json(path, compute())
    return read_json(path, REMEDY)


def _segment(rows: dict[str, list], settings: PreparationSettings, columns: Iterable[str]) -> dict[str, list]:
    """Split documents into sentences; each sentence has the part and the label of its document."""
    found: dict[str, list] = {name: [] for name in columns}
    for number, document in enumerate(rows["text"]):
        parts = segment(document, settings)
        found["text"] += parts
        for name in found.keys() - {"text"}:
            found[name] += [rows[name][number]] * len(parts)
    return found


def _labels(shards: Shards, source: TextSource) -> list[str]:
    """Return all labels of the data, sorted.

    Raises:
        UserError: the label column has more than `LABELS` distinct values.
    """
    labels = sorted({label for record in shards.records for label in record["labels"]})
    if len(labels) > LABELS:
        raise UserError(
            f"--LABEL_COLUMN {source.label_column} has more than {LABELS} different values; name one with few"
        )
    return labels


class _Texts:
    """The texts of some splits; each iteration reads them anew."""

    def __init__(self, shards: Shards, *splits: str) -> None:
        self.shards, self.splits = shards, splits

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(map(self.shards.texts, self.splits))


def _trained(
    shards: Shards, source: TextSource, settings: PreparationSettings, work: Path, columns: dict[str, Any]
) -> TextTokenizer:
    """Train the tokenizer on the training split; load it if the preparation resumes after its training."""
    if (work / FILE).exists():
        return load_tokenizer(str(work / FILE))
    if not sum(record["sentences"][0] for record in shards.records):
        raise UserError(f"{source.data} holds no sentence to train a tokenizer on; bring more text")
    if settings.tokenizer == TABLE:
        assert source.template is not None, "only rows of a table have such a tokenizer"
        print("choosing the tokens of each column", flush=True)
        everywhere = _Texts(shards, *SPLITS)  # the types of the columns are those of all rows, too
        rows = RowTokenizer.train(everywhere.__iter__, source.template, columns, settings.vocabulary_size)
        rows.save(work)
        return rows
    kind = {BPE: "byte-level BPE", WORDPIECE: "WordPiece"}[settings.tokenizer]
    print(f"training a {kind} tokenizer of at most {settings.vocabulary_size} tokens", flush=True)
    if settings.tokenizer == BPE:
        tokenizer = train_bpe(_Texts(shards, "train"), settings.vocabulary_size)
    else:
        tokenizer = train_wordpiece(
            _Texts(shards, "train"), settings.vocabulary_size, lower_case=settings.clean == "paper"
        )
    tokenizer.save(work)
    return tokenizer


def _encode_all(
    segmented: Shards, tokenizer: TextTokenizer, settings: PreparationSettings, shards: Shards, work: Path
) -> None:
    """Encode all shards of sentences, from the first one without a shard of tokens."""
    columns = _columns(labelled=any(record["labels"] for record in segmented.records))
    columns |= {"input_ids": datasets.List(datasets.Value("int32")), "length": datasets.Value("int32")}
    columns |= {DROPPED: datasets.Value("int8"), CUT: datasets.Value("bool")}
    sizes = [sum(record["sentences"]) for record in segmented.records]
    done = len(shards.records)
    with bar(total=sum(sizes), initial=sum(sizes[:done]), desc="tokens", unit=" sentences", unit_scale=True) as shown:
        for number in range(done, len(sizes)):
            rows = segmented.rows(number)
            found = mapped(rows, lambda rows: encode(rows, tokenizer, settings), columns, work / "tokens.arrow")
            kept = np.flatnonzero(np.asarray(found.with_format("numpy")[DROPPED][:]) == 0)
            chosen = found if len(kept) == len(found) else found.select(kept)
            shards.append(chosen.remove_columns([DROPPED, CUT]), measured(found))
            del rows, found, chosen  # they keep files open
            segmented.drop(number)
            shown.update(sizes[number])
    shards.finish()


def _check_splits(segmented: Shards, encoded: Shards, source: TextSource, settings: PreparationSettings) -> None:
    """Check that every split has a sentence."""
    for number, part in enumerate(SPLITS):
        if not any(record["lengths"][number] for record in encoded.records):
            count = sum(record["sentences"][number] for record in segmented.records)
            raise UserError(
                f"the {part} split of {source.data} has no sentence of more than {settings.more_than} and fewer than "
                f"{settings.fewer_than} tokens (of {count}); bring more text or widen the limits"
            )


def _check_same(folder: Path, statistics: dict[str, Any]) -> None:
    """Raise a `UserError` if a folder of prepared data has other tokens than these statistics are of."""
    path = folder / "statistics.json"
    if path.exists() and (differs := difference(read_json(path, f"remove {folder}"), statistics)):
        raise UserError(
            f"{folder} was prepared otherwise ({differs}); take another --NAME, or replace it with --REPLACE True, and "
            "models that were trained on it can no longer be used"
        )


def _describe(
    shards: Shards, tokenizer: TextTokenizer, settings: PreparationSettings, source: TextSource
) -> tuple[dict[str, Any], Counter]:
    """Return the statistics of the prepared data, and the number of training sentences by length."""
    own = hashlib.sha256(tokenizer.tokenizer.to_str().encode())
    digest = own.copy()
    described, distributions = {}, []
    for number, part in enumerate(SPLITS):
        values: Counter = Counter()
        for record in shards.records:
            values.update({int(length): count for length, count in record["lengths"][number].items()})
            digest.update(record["digests"][number].encode())
        count, tokens = sum(values.values()), sum(length * number for length, number in values.items())
        described[part] = {
            "sentences": count,
            "tokens": tokens,
            "mean_length": tokens / count,
            "min_length": min(values),
            "max_length": max(values),
        }
        distributions.append(values)
    labels = sum((Counter(record["labels"]) for record in shards.records), Counter())
    # The name of a tokenizer's folder identifies it, its place on this disk does not.
    kept = dataclasses.asdict(settings) | {"tokenizer": Path(settings.tokenizer).name}
    return {
        **described,
        "vocabulary_size": tokenizer.vocabulary_size,
        "shards": len(shards.records),
        "settings": kept | {"split": dataclasses.asdict(source.split)},
        "labels": dict(sorted(labels.items())),
        "fingerprint": digest.hexdigest(),
        "tokenizer_fingerprint": own.hexdigest(),
        "versions": _versions(),
    }, distributions[0]


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that affect the result."""
    return {name: importlib.metadata.version(name) for name in ("datasets", "tokenizers", "nupunkt")}


def _plot(lengths: Counter, name: str, path: Path) -> None:
    """Plot the training sentences by length."""
    with figure(path) as axes:
        axes.bar(list(lengths), list(lengths.values()), width=1.0, color="#4477aa")
        axes.set(title=f"{name}: training sentences by length", xlabel="tokens, end token counted", ylabel="sentences")
