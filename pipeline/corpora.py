"""Where text comes from: named corpora, a folder of WikiText, or a user's own file."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError, first_line
from pipeline.text_files import rows

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS = ("train", "validation", "test")
WIKITEXT_FILES = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}
OWN_FORMATS = {".txt": "text", ".csv": "csv", ".jsonl": "json", ".parquet": "parquet"}
ENGLISH_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True)
class Split:
    """How text without splits of its own is divided: shares of it, under a seed."""

    validation: float
    test: float
    seed: int


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


def documents(
    data: str, local_path: Path | None, text_column: str | None, split: Split, cache: Path
) -> "dict[str, Dataset]":
    """The documents of each split, as Arrow on disk with one column, `text`.

    Args:
        data: a name of `NAMES`, or the path of a user's own file.
        local_path: folder with WikiText's files, in place of the hub.
        text_column: the column of a user's table that holds text.
        split: for text without splits of its own.
        cache: folder for Arrow files.

    Raises:
        UserError: the text is not there, cannot be read or reached.
    """
    check_source(data, local_path, text_column)
    if local_path is not None:
        return _wikitext_folder(local_path, cache)
    if data == EMBEDDED:
        return _from_generator(_wikipedia_articles, split, cache)
    if data in HUB:
        return _from_hub(data, split, cache)
    path = Path(data)
    return divide(_load(OWN_FORMATS[path.suffix], path, text_column, cache), split, str(path))


def _wikitext_folder(folder: Path, cache: Path) -> "dict[str, Dataset]":
    paths = {name: Path(folder) / file for name, file in WIKITEXT_FILES.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}; --LOCAL_PATH names a folder with "
            f"{', '.join(WIKITEXT_FILES.values())}"
        )
    return {name: _load("text", path, None, cache) for name, path in paths.items()}


def _from_hub(data: str, split: Split, cache: Path) -> "dict[str, Dataset]":
    corpus = HUB[data]
    print(f"asking the Hugging Face hub for {corpus.path}", flush=True)
    try:
        import datasets
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # a line for every retry; the one that counts is ours
        loaded = datasets.load_dataset(corpus.path, corpus.config, revision=corpus.revision, cache_dir=str(cache))
    except Exception as error:  # the hub's client raises many kinds; all mean that the text did not come
        instead = "give a folder with --LOCAL_PATH" if data.startswith("wikitext") else "give a file of your own"
        raise UserError(
            f"the Hugging Face hub did not deliver {corpus.path} ({type(error).__name__}: {first_line(error)}); "
            f"check the connection, {instead}, or take --DATA {EMBEDDED}"
        ) from None
    return joined_columns(loaded, corpus.columns, split)


def joined_columns(loaded: "dict[str, Dataset]", columns: tuple[str, ...], split: Split) -> "dict[str, Dataset]":
    """Splits with one column `text`, the columns joined a line each; what lacks a validation split gets one."""
    loaded = dict(loaded)
    if "validation" not in loaded:
        parts = loaded["train"].train_test_split(test_size=split.validation, seed=split.seed)
        loaded |= {"train": parts["train"], "validation": parts["test"]}
    joined = {}
    for name in SPLITS:
        part = loaded[name].select_columns(list(columns))
        if columns != ("text",):
            part = part.map(
                lambda rows: {"text": ["\n".join(filter(None, row)) for row in zip(*rows.values(), strict=True)]},
                batched=True,
                remove_columns=[column for column in columns if column != "text"],
            )
        joined[name] = part
    return joined


def _load(form: str, path: Path, column: str | None, cache: Path) -> "Dataset":
    import datasets
    from datasets.exceptions import DatasetGenerationError

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # its own reports; the one that counts is ours
    try:
        return datasets.Dataset.from_generator(
            rows,
            features=datasets.Features({"text": datasets.Value("string")}),
            cache_dir=str(cache),
            gen_kwargs={"path": path, "form": form, "column": column},
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None


def divide(whole: "Dataset", split: Split, source: str) -> "dict[str, Dataset]":
    """Divide documents into the three splits, under a seed.

    Args:
        whole: all documents.
        split: how.
        source: where they came from, for errors.

    Raises:
        UserError: a split would be empty.
    """
    import numpy as np

    count = len(whole)
    order = np.random.default_rng(split.seed).permutation(count)
    test, validation = (max(1, round(share * count)) for share in (split.test, split.validation))
    if test + validation >= count:
        raise UserError(
            f"{source} has too few documents with text ({count}) to divide into training, validation and test; "
            "bring more (of a .txt, each line is a document)"
        )
    parts = {
        "test": order[:test],
        "validation": order[test : test + validation],
        "train": order[test + validation :],
    }
    return {name: whole.select(np.sort(parts[name])) for name in SPLITS}


def _from_generator(
    articles: Callable[[], Iterator[dict[str, str]]], split: Split, cache: Path
) -> "dict[str, Dataset]":
    import datasets

    return divide(datasets.Dataset.from_generator(articles, cache_dir=str(cache)), split, EMBEDDED)


def _wikipedia_articles() -> Iterator[dict[str, str]]:
    """The articles of the Wikipedia sample that ships inside gensim, without captions and lists."""
    from gensim.scripts.segment_wiki import segment_all_articles
    from gensim.test.utils import datapath

    for _, sections in segment_all_articles(datapath(ENGLISH_WIKIPEDIA), min_article_character=200, workers=1):
        lines = (line.replace("'''", "").replace("''", "") for _, text in sections for line in text.splitlines())
        # What is no running text (captions, lists, tables, what the markup left) rarely ends like a sentence.
        yield {"text": "\n".join(line for line in lines if line.rstrip().endswith((".", "?", "!", '"')))}
