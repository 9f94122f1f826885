"""From documents to sentences: paragraphs, sentence boundaries, and the paper's cleaning."""

import re
from typing import cast

UNKNOWN = "[UNK]"

_HEADING = re.compile(r"^\s*(=+)[^=].*\1\s*$")
_FOREIGN = re.compile(r"[^a-zA-Z0-9 ,'<>.]")
_SPACE_BEFORE_MARK = re.compile(r" +(?=[,.'])")


def paragraphs(document: str) -> list[str]:
    """Split a document into paragraphs, one a line; drop empty lines and headings (` = Title = `)."""
    return [line for line in document.splitlines() if line.strip() and not _HEADING.match(line)]


def sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences with nupunkt, which ships an English model."""
    from nupunkt import sent_tokenize  # loads its model; only preparing data needs it

    return cast(list[str], sent_tokenize(paragraph))  # pairs with a confidence only if that is asked for


def clean_paper(sentence: str) -> str:
    """Clean a sentence as in the paper.

    Lower the case; keep only letters, digits, spaces and `, ' < > .`; drop spaces before `, . '` and repeated spaces.
    `<unk>` becomes `[UNK]`, which every tokenizer of the project keeps as one token.
    """
    kept = _FOREIGN.sub("", " ".join(sentence.lower().split()))
    kept = kept.replace("<unk>", f" {UNKNOWN} ")
    return _SPACE_BEFORE_MARK.sub("", " ".join(kept.split()))


def clean_none(sentence: str) -> str:
    """Return the sentence unchanged."""
    return sentence


def without_space(text: str) -> str:
    """Remove all white space."""
    return "".join(text.split())


CLEANERS = {"paper": clean_paper, "none": clean_none}


def split_document(document: str, clean: str) -> list[str]:
    """Split a document of a named corpus into cleaned sentences, none of them empty.

    Args:
        document: any text.
        clean: `paper` or `none`.
    """
    cleaner = CLEANERS[clean]
    cleaned = (cleaner(sentence) for paragraph in paragraphs(document) for sentence in sentences(paragraph))
    return [sentence for sentence in cleaned if sentence.strip()]


def whole_document(document: str, clean: str) -> list[str]:
    """Clean a document as one text; return no text if nothing is left of it."""
    cleaned = CLEANERS[clean](document)
    return [cleaned] if cleaned.strip() else []
