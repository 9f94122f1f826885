"""From documents to sentences: paragraphs, sentence boundaries, and the paper's cleaning."""

import re

UNKNOWN = "[UNK]"

_HEADING = re.compile(r"^\s*(=+)[^=].*\1\s*$")
_FOREIGN = re.compile(r"[^a-zA-Z0-9 ,'<>.]")
_SPACE_BEFORE_MARK = re.compile(r" +(?=[,.'])")


def paragraphs(document: str) -> list[str]:
    """The paragraphs of a document, a line each; empty lines and headings (` = Title = `) are dropped."""
    return [line for line in document.splitlines() if line.strip() and not _HEADING.match(line)]


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, by nupunkt, whose English model ships with it."""
    from nupunkt import sent_tokenize

    return sent_tokenize(paragraph)


def clean_paper(sentence: str) -> str:
    """The paper's preprocessing of a sentence.

    Only letters, digits, spaces and `, ' < > .` stay; no space before `, . '`; lower case; one space at a
    time. `<unk>` becomes `[UNK]`, which every tokenizer here keeps as one token.
    """
    kept = _FOREIGN.sub("", " ".join(sentence.lower().split()))
    kept = kept.replace("<unk>", f" {UNKNOWN} ")
    return _SPACE_BEFORE_MARK.sub("", " ".join(kept.split()))


def clean_none(sentence: str) -> str:
    """The sentence as it is, with one space wherever there was white space."""
    return " ".join(sentence.split())


CLEANERS = {"paper": clean_paper, "none": clean_none}


def split_document(document: str, clean: str) -> list[str]:
    """The cleaned sentences of a document, none of them empty.

    Args:
        document: any text.
        clean: `paper` or `none`.
    """
    cleaner = CLEANERS[clean]
    cleaned = (cleaner(sentence) for paragraph in paragraphs(document) for sentence in sentences(paragraph))
    return [sentence for sentence in cleaned if sentence]


def whole_document(document: str, clean: str) -> list[str]:
    """A document as one text, cleaned; none, if nothing is left of it."""
    cleaned = CLEANERS[clean](document)
    return [cleaned] if cleaned else []
