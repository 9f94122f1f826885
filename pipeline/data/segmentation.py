"""Sentences of a user's own text: nothing but white space between two sentences is left out.

Sentence ends of scripts that nupunkt does not know are found by their marks. A text without any is cut by length.
"""

import bisect
import itertools
import re
from collections.abc import Iterator

# Full stops of Chinese, Japanese, Urdu, Hindi, Armenian, Ethiopic, Tibetan, Burmese and Khmer, with the closing marks
# behind them. They end a sentence also without a space behind them; a full stop of Latin script does not ("3.14").
_END = re.compile(r"(?:[。！？｡؟۔।॥։።༎။៕។]|．(?!\d))+[\"'”’»」』）)\]】》]*")

_SPACES = " \t\n\u3000"


def own_sentences(document: str) -> list[str]:
    """Split a document into its sentences.

    The white space between two sentences, line breaks included, is left out; the white space inside a sentence and at
    the ends of the document's lines is kept, but for lines of nothing else.
    """
    return [sentence for line in document.splitlines() if line.strip() for sentence in _line_sentences(line)]


def _line_sentences(line: str) -> Iterator[str]:
    """Split a line at all its sentence ends."""
    from nupunkt import sent_spans  # loads its model; only preparing data needs it

    ends = {start for start, _ in sent_spans(line)} | {found.end() for found in _END.finditer(line)}
    cuts = [0, *sorted(ends - {0, len(line)}), len(line)]
    yield from _pieces(line, cuts)


def cut_by_length(text: str, spans: list[tuple[int, int]], limit: int) -> list[str]:
    """Cut a text into pieces of equal length in tokens, at white space where there is some, otherwise at a character.

    Args:
        text: text to cut.
        spans: start and end of each token in the text, in characters.
        limit: tokens of a piece at most; a token that the cut itself divides may add a few.

    Returns:
        The pieces; only white space at a cut is left out.
    """
    starts = [start for start, _ in spans]
    cuts, first = [0], 0
    while (rest := len(starts) - first) > limit:
        size = -(-rest // -(-rest // limit))
        end = starts[first + size]
        space = max(text.rfind(mark, starts[first + size // 2], end) for mark in _SPACES)
        cuts.append(end if space <= cuts[-1] else space)
        first = max(bisect.bisect_left(starts, cuts[-1]), first + 1)
    return list(_pieces(text, [*cuts, len(text)]))


def _pieces(text: str, cuts: list[int]) -> Iterator[str]:
    """Cut a text and leave out the white space at its inner cuts."""
    pieces = [piece for start, end in itertools.pairwise(cuts) if (piece := text[start:end]).strip()]
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        piece = piece if number == 0 else piece.lstrip()
        yield piece if number == last else piece.rstrip()


def covers(document: str, sentences: list[str]) -> bool:
    """Return True if a document is its sentences in order, with nothing but white space between and around them."""
    place = 0
    for sentence in sentences:
        found = document.find(sentence, place)
        if found < 0 or document[place:found].strip():
            return False
        place = found + len(sentence)
    return not document[place:].strip()
