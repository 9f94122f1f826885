"""The named corpora: datasets of the Hugging Face hub, a folder of WikiText, and the Wikipedia sample of gensim."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.documents import SPLITS, Document, LabelledText, Split, divided
from pipeline.data.file_format import Columns
from pipeline.data.text_format import TextFormat
from pipeline.runtime.errors import UnfinishedError, UserError, first_line

WIKITEXT = ("wikitext2", "wikitext103")
WIKITEXT_FILES = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}
HUB_BATCH = 1000  # rows


@dataclass(frozen=True)
class HubCorpus:
    """A corpus on the Hugging Face hub.

    Args:
        path: repository, as owner/name.
        config: configuration of the dataset, or None.
        columns: columns of text; a document is their values, a line each.
        revision: branch to load, or None for the main one.
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
EMBEDDED_FILE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
NAMES = (EMBEDDED, *HUB)


def wikitext_files(folder: Path) -> dict[str, Path]:
    """Return the paths of WikiText's three files by split.

    Raises:
        UserError: the folder lacks one of them.
    """
    paths = {name: Path(folder) / file for name, file in WIKITEXT_FILES.items()}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no {', '.join(missing)}; --LOCAL_PATH names a folder with "
            f"{', '.join(WIKITEXT_FILES.values())}"
        )
    return paths


def wikitext_documents(folder: Path) -> Iterator[Document]:
    """Read the documents of WikiText from a folder, a document a line.

    Raises:
        UserError: a file is missing, cannot be read or is damaged.
    """
    return _in_splits({name: _lines(path) for name, path in wikitext_files(folder).items()})


def _lines(path: Path) -> Iterator[LabelledText]:
    return ((row.text, None) for row in TextFormat().read(path, Columns()) if row.text is not None)


def wikipedia_articles() -> Iterator[str]:
    """Read the articles of the Wikipedia sample that ships with gensim, without captions and lists."""
    from gensim.scripts.segment_wiki import segment_all_articles  # heavy; no other corpus needs it
    from gensim.test.utils import datapath

    for _, sections, *_ in segment_all_articles(datapath(EMBEDDED_FILE), min_article_character=200, workers=1):
        lines = (line.replace("'''", "").replace("''", "") for _, text in sections for line in text.splitlines())
        # Lines that are no running text (captions, lists, tables, rests of markup) rarely end like a sentence.
        yield "\n".join(line for line in lines if line.rstrip().endswith((".", "?", "!", '"')))


def hub_documents(corpus: HubCorpus, data: str, split: Split) -> Iterator[Document]:
    """Read the documents of a corpus from the Hugging Face hub as a stream, without a copy on disk.

    Args:
        corpus: corpus to read.
        data: name that the user gave to it, for error messages.
        split: fractions of the training split for the splits that the corpus lacks.

    Raises:
        UserError: the corpus lacks a column or a training split.
        UnfinishedError: the hub did not deliver the corpus; a later attempt may resume.
    """
    print(f"asking the Hugging Face hub for {corpus.path}", flush=True)
    try:
        import datasets  # this module is imported while a command line is parsed
        import huggingface_hub

        huggingface_hub.logging.set_verbosity_error()  # no line for every retry: the last error has its own line
        loaded = datasets.load_dataset(corpus.path, corpus.config, revision=corpus.revision, streaming=True)
        yield from joined_columns({str(name): part for name, part in loaded.items()}, corpus, split)
    except UserError:
        raise
    except Exception as error:  # the hub's client raises many kinds; all mean that the text did not arrive
        instead = "give a folder with --LOCAL_PATH" if data.startswith("wikitext") else "give a file of your own"
        raise UnfinishedError(
            f"the Hugging Face hub did not deliver {corpus.path} ({type(error).__name__}: {first_line(error)}); "
            f"check the connection, {instead}, or take --DATA {EMBEDDED}"
        ) from None


def joined_columns(loaded: Mapping[str, Any], corpus: HubCorpus, split: Split) -> Iterator[Document]:
    """Join the text columns of a corpus of the hub to documents, a line for each column.

    Args:
        loaded: datasets by split name; they may stream.
        corpus: columns to read.
        split: fractions of the training split for the splits that the corpus lacks.

    Raises:
        UserError: the corpus lacks a column or a training split.
    """
    if "train" not in loaded:
        raise UserError(f"{corpus.path} has no training split (it has {', '.join(loaded)}); take another dataset")
    own = {name: _joined(loaded[name], corpus) for name in SPLITS if name in loaded}
    validation, test = ((0.0 if name in own else getattr(split, name)) for name in ("validation", "test"))
    if validation or test:
        yield from divided(own.pop("train"), Split(validation, test, split.seed), "its training split")
    yield from _in_splits(own)


def _joined(part: Any, corpus: HubCorpus) -> Iterator[LabelledText]:
    """Read the texts and labels of one split."""
    wanted = [*corpus.columns, *([corpus.label] if corpus.label is not None else [])]
    if missing := [name for name in wanted if name not in (part.column_names or wanted)]:
        raise UserError(f"{corpus.path} has no column {missing[0]!r}; it has {', '.join(part.column_names)}")
    kinds = (part.features or {}).get(corpus.label)
    named = getattr(kinds, "int2str", str)  # labels of the hub may be numbers with names
    for batch in part.select_columns(wanted).iter(HUB_BATCH):
        texts = ["\n".join(filter(None, row)) for row in zip(*(batch[name] for name in corpus.columns), strict=True)]
        labels: list[str | None] = [None] * len(texts)
        if corpus.label is not None:
            labels = ["" if label is None else str(named(label)) for label in batch[corpus.label]]
        yield from zip(texts, labels, strict=True)


def _in_splits(parts: Mapping[str, Iterable[LabelledText]]) -> Iterator[Document]:
    """Mark the texts of a corpus with its own splits."""
    return (Document(SPLITS.index(name), *row) for name, rows in parts.items() for row in rows)
