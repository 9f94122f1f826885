"""Where text comes from: named corpora, a folder of WikiText, or a user's own file; a document at a time."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UnfinishedError, UserError, first_line
from pipeline.text_files import rows

SPLITS = ("train", "validation", "test")
WIKITEXT_FILES = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}
OWN_FORMATS = {".txt": "text", ".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}
DIVIDED_TOGETHER = 1000  # documents
ENGLISH_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True)
class Split:
    """How text without splits of its own is divided: shares of it, under a seed."""

    validation: float
    test: float
    seed: int


class Document(NamedTuple):
    """A document and the split that it belongs to, a number of `SPLITS`."""

    part: int
    text: str


@dataclass(frozen=True)
class HubCorpus:
    """A corpus on the Hugging Face hub.

    Args:
        path: its repository.
        config: its configuration, or None.
        columns: joined to one document, a line each.
        revision: branch, where the main one does not load.
    """

    path: str
    config: str | None
    columns: tuple[str, ...]
    revision: str | None = None


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
    if path.suffix not in OWN_FORMATS:
        raise UserError(
            f"unknown dataset {data!r}; choose one of {', '.join(NAMES)}, or the path of a "
            f"{', '.join(OWN_FORMATS)} file"
        )
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}", path.stem) or path.stem in NAMES:
        raise UserError(
            f"the dataset would be called {path.stem!r}, after its file; rename the file to letters, digits, '_', '-' "
            f"or '.', and to none of {', '.join(NAMES)}"
        )
    return path.stem


def check_source(data: str, local_path: Path | None, text_column: str | None) -> None:
    """See to it that what says where the text lies fits together.

    Args:
        data: as `documents` takes it, and the rest too.

    Raises:
        UserError: it does not; the message names the flag.
    """
    dataset_name(data)
    if local_path is not None and data not in ("wikitext2", "wikitext103"):
        raise UserError(f"--LOCAL_PATH holds WikiText and means nothing for --DATA {data}; leave it out")
    table = False
    if data not in NAMES:
        path = Path(data)
        if not path.is_file():
            what = "is no file" if path.exists() else "is not there"
            raise UserError(f"{path} {what}; --DATA names one of {', '.join(NAMES)} or a file")
        table = OWN_FORMATS[path.suffix] != "text"
    if table and not text_column:
        raise UserError(f"--DATA {data} is a table; name the column that holds the text with --TEXT_COLUMN")
    if not table and text_column:
        raise UserError(f"--TEXT_COLUMN is of a table and means nothing for --DATA {data}; leave it out")


def documents(data: str, local_path: Path | None, text_column: str | None, split: Split) -> Iterator[Document]:
    """All documents, one at a time and always in the same order.

    Args:
        data: a name of `NAMES`, or the path of a user's own file.
        local_path: folder with WikiText's files, in place of the hub.
        text_column: the column of a user's table that holds text.
        split: for text without splits of its own.

    Raises:
        UserError: the text is not there, cannot be read or reached.
    """
    check_source(data, local_path, text_column)
    if local_path is not None:
        return _apart({name: _texts(path, "text", None) for name, path in _wikitext(local_path).items()})
    if data == EMBEDDED:
        return divide(_wikipedia_articles(), split, EMBEDDED)
    if data in HUB:
        return _from_hub(data, split)
    path = Path(data)
    return divide(_texts(path, OWN_FORMATS[path.suffix], text_column), split, str(path))


def source_files(data: str, local_path: Path | None) -> list[Path]:
    """The files that hold the text; none where it comes from a package or the hub.

    Raises:
        UserError: one of WikiText's is missing.
    """
    if local_path is not None:
        return list(_wikitext(local_path).values())
    return [] if data in NAMES else [Path(data)]


def _wikitext(folder: Path) -> dict[str, Path]:
    paths = {name: Path(folder) / file for name, file in WIKITEXT_FILES.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}; --LOCAL_PATH names a folder with "
            f"{', '.join(WIKITEXT_FILES.values())}"
        )
    return paths


def _texts(path: Path, form: str, column: str | None) -> Iterator[str]:
    return (row["text"] for row in rows(path, form, column))


def _apart(parts: Mapping[str, Iterable[str]]) -> Iterator[Document]:
    """The documents of splits that a corpus has itself."""
    return (Document(SPLITS.index(name), text) for name, texts in parts.items() for text in texts)


def _from_hub(data: str, split: Split) -> Iterator[Document]:
    corpus = HUB[data]
    print(f"asking the Hugging Face hub for {corpus.path}", flush=True)
    try:
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # a line for every retry; the one that counts is ours
        loaded = datasets.load_dataset(corpus.path, corpus.config, revision=corpus.revision, streaming=True)
        yield from joined_columns(loaded, corpus.columns, split)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises many kinds; all mean that the text did not come
        instead = "give a folder with --LOCAL_PATH" if data.startswith("wikitext") else "give a file of your own"
        raise UnfinishedError(
            f"the Hugging Face hub did not deliver {corpus.path} ({type(error).__name__}: {first_line(error)}); "
            f"check the connection, {instead}, or take --DATA {EMBEDDED}"
        ) from None


def joined_columns(loaded: Mapping[str, Any], columns: tuple[str, ...], split: Split) -> Iterator[Document]:
    """The documents of a corpus of the hub, a line for each of the columns.

    Args:
        loaded: datasets, which may stream, by their splits' names.
        columns: of text.
        split: how much of the training split is taken for validation, where there is none.
    """
    own = {name: _joined(loaded[name], columns) for name in SPLITS if name in loaded}
    if "validation" not in own:
        yield from divide(own.pop("train"), Split(split.validation, 0.0, split.seed), "its training split")
    yield from _apart(own)


def _joined(part: Any, columns: tuple[str, ...]) -> Iterator[str]:
    for batch in part.select_columns(list(columns)).iter(1000):
        for row in zip(*(batch[column] for column in columns), strict=True):
            yield "\n".join(filter(None, row))


def divide(texts: Iterable[str], split: Split, source: str) -> Iterator[Document]:
    """Divide documents into the three splits under a seed, so many at a time, each time by the same shares.

    Args:
        texts: of all documents.
        split: how.
        source: where they came from, for errors.

    Raises:
        UserError: a split would be empty.
    """
    import numpy as np

    texts = iter(texts)
    for number in itertools.count():
        block = list(itertools.islice(texts, DIVIDED_TOGETHER))
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
        yield from map(Document, parts.tolist(), block)


def _wikipedia_articles() -> Iterator[str]:
    """The articles of the Wikipedia sample that ships inside gensim, without captions and lists."""
    from gensim.scripts.segment_wiki import segment_all_articles
    from gensim.test.utils import datapath

    for _, sections in segment_all_articles(datapath(ENGLISH_WIKIPEDIA), min_article_character=200, workers=1):
        lines = (line.replace("'''", "").replace("''", "") for _, text in sections for line in text.splitlines())
        # What is no running text (captions, lists, tables, what the markup left) rarely ends like a sentence.
        yield "\n".join(line for line in lines if line.rstrip().endswith((".", "?", "!", '"')))
