"""Where text comes from: named corpora, a folder of WikiText, or a user's own file; a document at a time."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.data.readers import columns, delimiter, rows
from pipeline.data.table_rows import ColumnTypes, RowTemplate
from pipeline.runtime.errors import UnfinishedError, UserError, first_line

Row = TypeVar("Row")

SPLITS = ("train", "validation", "test")
WIKITEXT_FILES = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}
OWN_FORMATS = {".txt": "text", ".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}
ON_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")  # owner/name
DIVIDED_TOGETHER = 1000  # documents
ENGLISH_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True)
class Split:
    """How text without splits of its own is divided: shares of it, under a seed."""

    validation: float
    test: float
    seed: int


@dataclass(frozen=True)
class Source:
    """Where text comes from.

    Args:
        data: a name of `NAMES`, the path of a user's own file, or a dataset on the hub.
        split: for text without splits of its own.
        local_path: folder with WikiText's files, in place of the hub.
        text_column: the column of a user's table that holds text.
        label_column: the column of a user's table that holds labels.
        row_template: that makes a text of a table's row, in place of a column of text; empty for the usual one.
    """

    data: str
    split: Split
    local_path: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    row_template: str | None = None


class Document(NamedTuple):
    """A document, the split that it belongs to (a number of `SPLITS`), and its label, if it has one."""

    part: int
    text: str
    label: str | None = None


@dataclass(frozen=True)
class HubCorpus:
    """A corpus on the Hugging Face hub.

    Args:
        path: its repository.
        config: its configuration, or None.
        columns: joined to one document, a line each.
        revision: branch, where the main one does not load.
        label: column that holds labels, or None.
    """

    path: str
    config: str | None
    columns: tuple[str, ...]
    revision: str | None = None
    label: str | None = None


HUB: dict[str, HubCorpus] = {
    "wikitext2": HubCorpus("Salesforce/wikitext", "wikitext-2-v1", ("text",)),
    "wikitext103": HubCorpus("Salesforce/wikitext", "wikitext-103-v1", ("text",)),
    # Its main branch is a loading script, which datasets no longer runs; the hub keeps a copy as Parquet.
    "ptb": HubCorpus("ptb-text-only/ptb_text_only", None, ("sentence",), "refs/convert/parquet"),
    "yelp": HubCorpus("Yelp/yelp_review_full", None, ("text",)),
    "yahoo": HubCorpus("community-datasets/yahoo_answers_topics", None, ("question_content", "best_answer")),
}
EMBEDDED = "wikipedia-sample"
NAMES = (EMBEDDED, *HUB)


def dataset_name(data: str) -> str:
    """The name by which prepared data is known: a corpus's own, or the stem of a user's file.

    Raises:
        UserError: the corpus is unknown, or a file's stem cannot be a folder's name.
    """
    if data in NAMES:
        return data
    path = Path(data)
    if ON_HUB.fullmatch(data) and path.suffix not in OWN_FORMATS and not path.exists():
        return path.name
    if path.suffix not in OWN_FORMATS:
        raise UserError(
            f"unknown dataset {data!r}; choose one of {', '.join(NAMES)}, the path of a {', '.join(OWN_FORMATS)} file, "
            "or a dataset on the Hugging Face hub as owner/name"
        )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}", path.stem) or path.stem in NAMES:
        raise UserError(
            f"the dataset would be called {path.stem!r}, after its file; rename the file to letters, digits, '_', '-' "
            f"or '.', and to none of {', '.join(NAMES)}"
        )
    return path.stem


def check_source(source: Source) -> None:
    """See to it that what says where the text lies fits together.

    Raises:
        UserError: it does not; the message names the flag.
    """
    data = source.data
    dataset_name(data)
    if source.local_path is not None and data not in ("wikitext2", "wikitext103"):
        raise UserError(f"--LOCAL_PATH holds WikiText and means nothing for --DATA {data}; leave it out")
    of_table = {
        "--TEXT_COLUMN": source.text_column,
        "--LABEL_COLUMN": source.label_column,
        "--ROW_TEMPLATE": source.row_template,
    }
    given = [flag for flag, value in of_table.items() if value is not None]
    if not is_table(data):
        if data not in NAMES:
            _check_file(Path(data))
        if given:
            raise UserError(f"{given[0]} is of a table and means nothing for --DATA {data}; leave it out")
        return
    if is_file(data):
        _check_file(Path(data))
    if source.text_column is None and source.row_template is None:
        raise UserError(
            f"--DATA {data} is a table; name the column that holds the text with --TEXT_COLUMN, or make a text of each "
            "row with --ROW_TEMPLATE"
        )
    if source.text_column is not None and source.row_template is not None:
        raise UserError("--TEXT_COLUMN and --ROW_TEMPLATE are two ways to make text of a table; leave one of them out")
    if source.row_template is not None and not is_file(data):
        raise UserError("--ROW_TEMPLATE is of a table in a file; save the dataset as one, or name its --TEXT_COLUMN")
    if source.label_column is not None and source.label_column == source.text_column:
        raise UserError("--TEXT_COLUMN and --LABEL_COLUMN name the same column; name two")


def _check_file(path: Path) -> None:
    if not path.is_file():
        what = "is no file" if path.exists() else "is not there"
        raise UserError(f"{path} {what}; --DATA names one of {', '.join(NAMES)} or a file")


def is_file(data: str) -> bool:
    """Whether this names a file of a user's own."""
    return data not in NAMES and Path(data).suffix in OWN_FORMATS


def is_table(data: str) -> bool:
    """Whether this names a table: a file with columns, or a dataset on the hub that is none of the named corpora."""
    return data not in NAMES and (not is_file(data) or OWN_FORMATS[Path(data).suffix] != "text")


def documents(source: Source) -> Iterator[Document]:
    """All documents, one at a time and always in the same order.

    Raises:
        UserError: the text is not there, cannot be read or reached.
    """
    check_source(source)
    data, split = source.data, source.split
    if source.local_path is not None:
        files = _wikitext(source.local_path).items()
        return _apart({name: ((row["text"], None) for row in rows(path, "text", None)) for name, path in files})
    if data == EMBEDDED:
        return _divided(((text, None) for text in _wikipedia_articles()), split, EMBEDDED)
    if not is_file(data):
        corpus = HUB.get(data) or HubCorpus(data, None, (source.text_column,), None, source.label_column)
        return _from_hub(corpus, data, split)
    return _divided(_own(source), split, data)


def _own(source: Source) -> Iterator[tuple[str, str | None]]:
    """Text and label of each row of a user's own file."""
    path, form = Path(source.data), OWN_FORMATS[Path(source.data).suffix]
    label = source.label_column
    if source.row_template is None:
        for row in rows(path, form, source.text_column, () if label is None else (label,)):
            yield row["text"], None if label is None else _label(row[label])
        return
    template = template_of(source)
    for row in rows(path, form, None, _taken(source)):
        yield template.text(row), None if label is None else _label(row[label])


def column_names(source: Source) -> list[str]:
    """The columns of a table in a file."""
    return columns(Path(source.data), OWN_FORMATS[Path(source.data).suffix])


def column_delimiter(source: Source) -> str:
    """What divides the columns of a table in a CSV file; a comma of any other."""
    path = Path(source.data)
    return delimiter(path) if is_file(source.data) and OWN_FORMATS[path.suffix] == "csv" else ","


def template_of(source: Source) -> RowTemplate:
    """What makes texts of the source's rows; the label's column is not among them by itself."""
    names = column_names(source)
    if source.label_column is not None and source.label_column not in names:
        raise UserError(f"{source.data} has no column {source.label_column!r}; it has {', '.join(names)}")
    others = [name for name in names if name != source.label_column]
    return RowTemplate(source.row_template or None, others, source.data)


def _taken(source: Source) -> list[str] | None:
    """The columns of a table that are read beside its text; None for all of them."""
    taken = [] if source.row_template is None else list(template_of(source).columns)
    taken += [] if source.label_column is None or source.label_column in taken else [source.label_column]
    return None if set(taken) == set(column_names(source)) else taken


def _label(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def source_files(source: Source) -> list[Path]:
    """The files that hold the text; none where it comes from a package or the hub.

    Raises:
        UserError: one of WikiText's is missing.
    """
    if source.local_path is not None:
        return list(_wikitext(source.local_path).values())
    return [Path(source.data)] if is_file(source.data) else []


def _wikitext(folder: Path) -> dict[str, Path]:
    paths = {name: Path(folder) / file for name, file in WIKITEXT_FILES.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}; --LOCAL_PATH names a folder with "
            f"{', '.join(WIKITEXT_FILES.values())}"
        )
    return paths


def survey(source: Source) -> dict[str, Any]:
    """What is to be known of a text before the long work, every fault of its files among it.

    Returns:
        `bytes` of text, None where it comes from a package or the hub, and the types of the `columns` that are kept.

    Raises:
        UserError: a file cannot be read or is damaged; the message says where.
    """
    if not source_files(source):
        return {"bytes": None, "columns": {}}
    size, types = sum(len(document.text.encode()) for document in documents(source)), ColumnTypes()
    if is_file(source.data) and is_table(source.data):
        form, taken = OWN_FORMATS[Path(source.data).suffix], _taken(source)
        types = ColumnTypes(spelt=form == "csv")
        for row in rows(Path(source.data), form, None, taken) if taken != [] else ():
            types.see(row)
    return {"bytes": size, "columns": types.to_json()}


def _apart(parts: Mapping[str, Iterable[tuple[str, str | None]]]) -> Iterator[Document]:
    """The documents of splits that a corpus has itself."""
    return (Document(SPLITS.index(name), *row) for name, rows in parts.items() for row in rows)


def _divided(texts: Iterable[tuple[str, str | None]], split: Split, source: str) -> Iterator[Document]:
    return (Document(part, *row) for part, row in divide(texts, split, source))


def _from_hub(corpus: HubCorpus, data: str, split: Split) -> Iterator[Document]:
    print(f"asking the Hugging Face hub for {corpus.path}", flush=True)
    try:
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # a line for every retry; the one that counts is ours
        loaded = datasets.load_dataset(corpus.path, corpus.config, revision=corpus.revision, streaming=True)
        yield from joined_columns(loaded, corpus, split)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises many kinds; all mean that the text did not come
        instead = "give a folder with --LOCAL_PATH" if data.startswith("wikitext") else "give a file of your own"
        raise UnfinishedError(
            f"the Hugging Face hub did not deliver {corpus.path} ({type(error).__name__}: {first_line(error)}); "
            f"check the connection, {instead}, or take --DATA {EMBEDDED}"
        ) from None


def joined_columns(loaded: Mapping[str, Any], corpus: HubCorpus, split: Split) -> Iterator[Document]:
    """The documents of a corpus of the hub, a line for each of its columns of text.

    Args:
        loaded: datasets, which may stream, by their splits' names.
        corpus: which columns.
        split: how much of the training split is taken for the splits that it lacks.

    Raises:
        UserError: it lacks a column or a training split.
    """
    if "train" not in loaded:
        raise UserError(f"{corpus.path} has no training split (it has {', '.join(loaded)}); take another dataset")
    own = {name: _joined(loaded[name], corpus) for name in SPLITS if name in loaded}
    shares = Split(*(0.0 if name in own else getattr(split, name) for name in ("validation", "test")), split.seed)
    if shares.validation or shares.test:
        yield from _divided(own.pop("train"), shares, "its training split")
    yield from _apart(own)


def _joined(part: Any, corpus: HubCorpus) -> Iterator[tuple[str, str | None]]:
    wanted = [*corpus.columns, *([corpus.label] if corpus.label is not None else [])]
    if missing := [name for name in wanted if name not in (part.column_names or wanted)]:
        raise UserError(f"{corpus.path} has no column {missing[0]!r}; it has {', '.join(part.column_names)}")
    kinds = (part.features or {}).get(corpus.label)
    for batch in part.select_columns(wanted).iter(1000):
        texts = ["\n".join(filter(None, row)) for row in zip(*(batch[name] for name in corpus.columns), strict=True)]
        labels = [None] * len(texts)
        if corpus.label is not None:
            named = getattr(kinds, "int2str", str)
            labels = [_label(None if label is None else named(label)) for label in batch[corpus.label]]
        yield from zip(texts, labels, strict=True)


def divide(rows: Iterable[Row], split: Split, source: str) -> Iterator[tuple[int, Row]]:
    """Divide rows into the three splits under a seed, so many at a time, each time by the same shares.

    Args:
        rows: of all documents.
        split: how.
        source: where they came from, for errors.

    Returns:
        Each with the number of its split.

    Raises:
        UserError: a split would be empty.
    """
    import numpy as np

    rows = iter(rows)
    for number in itertools.count():
        block = list(itertools.islice(rows, DIVIDED_TOGETHER))
        if number and not block:
            return
        test, validation = (round(share * len(block)) for share in (split.test, split.validation))
        if number == 0:  # of the first ones each split has something; with more of them that is enough
            test, validation = (max(n, share > 0) for n, share in ((test, split.test), (validation, split.validation)))
        if number == 0 and test + validation >= len(block):
            raise UserError(
                f"{source} has too few documents with text ({len(block)}) to divide into training, validation and "
                "test; bring more (of a .txt, each line is a document)"
            )
        order = np.random.default_rng([split.seed, number] if number else split.seed).permutation(len(block))
        parts = np.zeros(len(block), dtype=np.int8)
        parts[order[:test]] = SPLITS.index("test")
        parts[order[test : test + validation]] = SPLITS.index("validation")
        yield from zip(parts.tolist(), block, strict=True)


def _wikipedia_articles() -> Iterator[str]:
    """The articles of the Wikipedia sample that ships inside gensim, without captions and lists."""
    from gensim.scripts.segment_wiki import segment_all_articles
    from gensim.test.utils import datapath

    for _, sections in segment_all_articles(datapath(ENGLISH_WIKIPEDIA), min_article_character=200, workers=1):
        lines = (line.replace("'''", "").replace("''", "") for _, text in sections for line in text.splitlines())
        # What is no running text (captions, lists, tables, what the markup left) rarely ends like a sentence.
        yield "\n".join(line for line in lines if line.rstrip().endswith((".", "?", "!", '"')))
