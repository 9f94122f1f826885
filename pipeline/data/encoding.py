"""From sentences to token ids within the limits of length, with a count of every sentence that is left out, and why."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
from datasets import Dataset

from pipeline.data.cleaning import split_document, whole_document
from pipeline.data.documents import SPLITS
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.segmentation import cut_by_length, own_sentences
from pipeline.data.shards import PART
from pipeline.data.tokenizer import TextTokenizer
from pipeline.runtime.errors import UserError

DROPPED = "dropped"  # column with the index of a reason in `REASONS`, 0 for a sentence that is kept
CUT = "cut"  # column that is True for a piece of a sentence that was cut by length
LACKING = "with a character that the tokenizer lacks"
REASONS = ("", "too short", "too long", "with a special token in its text", "empty after cleaning", LACKING)
REFUSED_SHARE = 5  # one of so many texts may be lost without a flag


def segment(document: str, settings: PreparationSettings) -> list[str]:
    """Split a document into sentences and clean them.

    A document of a user's own from which nothing is left is one empty sentence, so that it is counted.
    """
    if settings.whole:
        found = whole_document(document, settings.clean)
    elif settings.own and settings.clean == "none":
        found = own_sentences(document)
    else:
        found = split_document(document, settings.clean)
    return found or ([""] if settings.own and document.strip() else [])


def encode(rows: Mapping[str, list], tokenizer: TextTokenizer, settings: PreparationSettings) -> dict[str, list]:
    """Encode sentences; mark those outside the limits of length and those that spell a special token or a label.

    A sentence of a user's own text that is too long is cut into pieces.

    Args:
        rows: columns of sentences: `text`, and further ones.
        tokenizer: tokenizer of the data.
        settings: limits of length.

    Returns:
        The columns of the sentences and pieces, with `input_ids`, `length`, `DROPPED` and `CUT`.
    """
    labelled = "label" in rows
    ids = tokenizer.encode(rows["text"], rows.get("label"))
    found: dict[str, list] = {name: [] for name in (*rows, "input_ids", "length", DROPPED, CUT)}
    start = 2 if labelled else 1
    reserved, lacking = tokenizer.special_ids, tokenizer.unk_id if tokenizer.lossless else None
    cut = settings.own and not settings.whole
    for number, row in enumerate(ids):
        pieces, encoded = [rows["text"][number]], [row]
        if cut and len(row) >= settings.fewer_than:
            pieces = list(_cut(rows["text"][number], tokenizer, settings.fewer_than - 2 - start))
            encoded = tokenizer.encode(pieces, [rows["label"][number]] * len(pieces) if labelled else None)
        for text, piece in zip(pieces, encoded, strict=True):
            for name, values in rows.items():
                found[name].append(text if name == "text" else values[number])
            found["input_ids"].append(piece)
            found["length"].append(len(piece) - 1)
            found[DROPPED].append(_reason(text, piece, piece[start:-1], settings, reserved, lacking))
            found[CUT].append(len(pieces) > 1)
    return found


def _cut(text: str, tokenizer: TextTokenizer, limit: int) -> Iterable[str]:
    """Cut a text into pieces of at most `limit` tokens, special ones not counted."""
    limit = max(limit, 1)
    spans = tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
    if len(spans) <= limit or len(text) < 2:
        yield text
        return
    pieces = cut_by_length(text, spans, limit)
    for piece in pieces:
        yield from _cut(piece, tokenizer, limit) if len(pieces) > 1 else [piece]


def _reason(
    text: str,
    ids: Sequence[int],
    own: Sequence[int],
    settings: PreparationSettings,
    reserved: frozenset[int],
    lacking: int | None,
) -> int:
    """Return the index in `REASONS` of the reason to leave a sentence out."""
    if settings.own and (not text.strip() or not own):
        return REASONS.index("empty after cleaning")
    if lacking in own:
        return REASONS.index(LACKING)
    if not reserved.isdisjoint(own):
        return REASONS.index("with a special token in its text")
    if len(ids) <= settings.more_than:
        return REASONS.index("too short")
    return REASONS.index("too long") if len(ids) >= settings.fewer_than else 0


def measured(rows: Dataset) -> dict[str, Any]:
    """Count a shard's sentences by length and digest their ids, for each split; count labels and what is left out."""
    table = cast(pa.Table, rows.with_format("arrow")[:])
    kept = table.filter(pa.array(table[DROPPED].to_numpy() == 0))
    parts = kept[PART].to_numpy()
    lengths, digests = [], []
    for number in range(len(SPLITS)):
        part = kept.filter(pa.array(parts == number))
        counts = Counter(part["length"].to_pylist())
        lengths.append({str(length): counts[length] for length in sorted(counts)})
        digest = hashlib.sha256()
        for ids in part["input_ids"].chunks:
            digest.update(ids.flatten().to_numpy())
        digests.append(digest.hexdigest())
    labelled = "label" in rows.column_names
    labels = Counter(kept.filter(pa.array(parts == 0))["label"].to_pylist()) if labelled else Counter()
    dropped = table.filter(pa.array(table[DROPPED].to_numpy() != 0))
    losses = zip(
        dropped[DROPPED].to_pylist(),
        dropped["label"].to_pylist() if labelled else [None] * len(dropped),
        dropped["length"].to_pylist(),
        strict=True,
    )
    return {
        "lengths": lengths,
        "digests": digests,
        "labels": dict(labels),
        "dropped": _counted(losses),
        "pieces": sum(kept[CUT].to_pylist()),
    }


def _counted(losses: Iterable[tuple[int, str | None, int]]) -> list[list[Any]]:
    """Count sentences that are left out by reason and label, with their smallest and largest number of tokens."""
    found: dict[tuple[int, str | None], list[int]] = {}
    for reason, label, length in losses:
        count = found.setdefault((reason, label), [0, length, length])
        count[:] = count[0] + 1, min(count[1], length), max(count[2], length)
    return [[REASONS[reason], label, *count] for (reason, label), count in found.items()]


@dataclass
class Kept:
    """Sentences that are kept and left out.

    Args:
        kept: sentences that are kept.
        dropped: sentences that are left out, by reason.
        by_label: the same for each label.
        shortest: tokens of the shortest sentence that is too short, start and end token counted; 0 if none is.
        longest: tokens of the longest sentence that is too long, start and end token counted; 0 if none is.
        pieces: pieces of sentences that were cut by length, among those kept.
    """

    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    by_label: dict[str, Counter[str]] = field(default_factory=dict)
    shortest: int = 0
    longest: int = 0
    pieces: int = 0

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> "Kept":
        """Add up the records of shards, as `measured` returns them."""
        total = cls()
        for record in records:
            total.kept += sum(sum(counts.values()) for counts in record["lengths"])
            total.pieces += record["pieces"]
            for reason, label, count, low, high in record["dropped"]:
                total.dropped[reason] += count
                if label is not None:
                    total.by_label.setdefault(label, Counter())[reason] += count
                if reason == "too short":
                    total.shortest = min(total.shortest or low + 1, low + 1)
                if reason == "too long":
                    total.longest = max(total.longest, high + 1)
        return total

    @property
    def lost(self) -> int:
        """Number of sentences that are left out."""
        return self.dropped.total()

    def remedies(self, settings: PreparationSettings) -> list[str]:
        """Return a line for each limit of length that sentences exceed: the flag that keeps them all, and its cost."""
        found = []
        if self.shortest:
            found.append(f"--MORE_THAN {self.shortest - 1} keeps the short ones")
        if self.longest:
            times = (self.longest / (settings.fewer_than - 1)) ** 2
            found.append(
                f"--FEWER_THAN {self.longest + 1} keeps the long ones (of up to {self.longest:,} tokens: attention "
                f"over such a text takes {times:,.1f} times the time and memory that it takes over "
                f"{settings.fewer_than - 1})"
            )
        return found

    def check(self, data: str, settings: PreparationSettings) -> None:
        """Check that few sentences are left out.

        Raises:
            UserError: more than one of `REFUSED_SHARE` is; the message gives reasons and remedies.
        """
        total = self.kept + self.lost
        if self.lost * REFUSED_SHARE <= total:
            return
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.most_common())
        remedies = "; ".join([*self.remedies(settings), "--ACCEPT_LOSS True goes on without them"])
        raise UserError(f"{data}: {self.lost:,} of {total:,} texts would be left out ({reasons}); {remedies}")

    def to_json(self) -> dict[str, Any]:
        """Return the counts for `statistics.json`."""
        return {
            "kept": self.kept,
            "dropped": dict(self.dropped.most_common()),
            "dropped_by_label": {label: dict(counts) for label, counts in sorted(self.by_label.items())},
            "pieces": self.pieces,
        }
