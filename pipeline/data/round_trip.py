"""The round trip of a user's own text: to tokens and back, in its own form, as a perfect model would give it.

Writes `round_trip.<format>`: the first training documents after tokenizing and writing back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.data.column_types import RejectedError
from pipeline.data.encoding import DROPPED, encode, segment
from pipeline.data.file_format import TEXT, Columns
from pipeline.data.formats import FORMATS
from pipeline.data.preparation_settings import PreparationSettings
from pipeline.data.segmentation import covers
from pipeline.data.text_source import TextSource
from pipeline.data.tokenizer import TextTokenizer
from pipeline.data.writers import LABEL, TableForm

NAME = "round_trip"
DOCUMENTS = 1000  # training documents
LISTED = 10  # differences
WIDTH = 60  # characters of a text in a message


@dataclass
class RoundTrip:
    """Result of a round trip.

    Args:
        documents: documents that are kept and were compared.
        identical: documents that came back as they were.
        differences: descriptions of the first differences, each with its place.
    """

    documents: int = 0
    identical: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of identical documents, in per cent."""
        return 100 * self.identical / self.documents if self.documents else 100.0

    def add(self, differences: list[str]) -> None:
        """Count a document, which is identical without differences."""
        self.documents += 1
        self.identical += not differences
        self.differences += differences[: LISTED - len(self.differences)]

    def to_json(self) -> dict[str, Any]:
        """Return the result for `statistics.json`."""
        return {
            "documents": self.documents,
            "identical": self.identical,
            "share": self.share,
            "differences": self.differences,
        }


def round_trip(
    source: TextSource,
    columns: Mapping[str, Any],
    tokenizer: TextTokenizer,
    settings: PreparationSettings,
    folder: Path,
) -> RoundTrip:
    """Write the first training documents after a round trip, and compare them with the source.

    Args:
        source: source of the text.
        columns: types of its columns, as `TextSource.survey` returns them.
        tokenizer: tokenizer, loaded from the file that is stored with the data.
        settings: settings of the preparation.
        folder: folder of the file.
    """
    form, result = TableForm(source.described(columns)), RoundTrip()
    assert form.suffix is not None, "a named corpus has no form"
    spelt = FORMATS[form.suffix].spelt
    unit = "document" if source.format is None else source.format.unit
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for number, (document, row) in enumerate(source.rows(columns), 1):
        if document.part != 0:
            continue
        line = number if row is None else row.line
        encoded = _encoded(document.text, document.label, tokenizer, settings)
        if not all(encoded[DROPPED]):
            place, found = f"{unit} {line}", []
            kept = zip(encoded["input_ids"], encoded[DROPPED], strict=True)
            decoded = tokenizer.decode_batch(ids for ids, dropped in kept if not dropped)
            whole = decoded == [document.text] if settings.whole else covers(document.text, decoded)
            if source.template is None and not any(encoded[DROPPED]) and not whole:
                found.append(f"{place}: {_shown(document.text)} became {_shown(' | '.join(decoded))}")
            for text in decoded:
                try:
                    made = form.row({TEXT: text, LABEL: document.label})
                except RejectedError as rejected:
                    found.append(f"{place}: {rejected}")
                    continue
                expected = made if row is None else row.values
                found += [
                    f"{place}, column {name!r}: {_shown(expected[name])} became {_shown(value)}"
                    for name, value in made.items()
                    if name in expected and not _equal(expected[name], value, spelt)
                ]
                rows.append(made)
                places.append(place)
            result.add(found)
        if result.documents == DOCUMENTS:
            break
    path = folder / f"{NAME}{form.suffix}"
    form.write(path, rows)
    _compare_file(path, form, rows, places, result)
    return result


def _encoded(
    text: str, label: str | None, tokenizer: TextTokenizer, settings: PreparationSettings
) -> dict[str, list[Any]]:
    """Segment and encode a document as the preparation does."""
    parts = segment(text, settings)
    columns: dict[str, list[Any]] = {"text": parts}
    if label is not None:
        columns["label"] = [label] * len(parts)
    return encode(columns, tokenizer, settings)


def _compare_file(
    path: Path, form: TableForm, rows: list[dict[str, Any]], places: list[str], result: RoundTrip
) -> None:
    """Compare the rows with those that are read from the file; a difference is one of the format."""
    assert form.suffix is not None
    read = FORMATS[form.suffix].read(path, form.columns if form.is_table else Columns(), *_columns_to_read(form))
    text_column = form.source.get("text_column")
    found = []
    for row in read:
        values = dict(row.values)
        if not form.is_table:
            values[TEXT] = row.text
        elif text_column is not None:
            values[text_column] = row.text
        found.append(values)
    different = set()
    for number, values in enumerate(rows):
        again = found[number] if number < len(found) else {}
        for name, value in values.items():
            if not _equal(value, again.get(name), FORMATS[form.suffix].spelt):
                different.add(places[number])
                if len(result.differences) < LISTED:
                    place = f"{places[number]}, column {name!r}"
                    result.differences.append(f"{place}: {_shown(value)} is {_shown(again.get(name))} in {path.name}")
    result.identical -= min(len(different), result.identical)


def _columns_to_read(form: TableForm) -> tuple[str | None, list[str] | None]:
    """Return the text column and the other columns of a file of this form."""
    if not form.is_table:
        return None, []
    text_column = form.source["text_column"]
    return text_column, [name for name in form.columns.names if name != text_column]


def _equal(one: Any, other: Any, spelt: bool) -> bool:
    """Compare two values with their types; where all values are strings, a missing one is an empty string."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if spelt and {type(one), type(other)} == {str, type(None)}:
        return not one and not other
    return type(one) is type(other) and one == other


def _shown(value: Any) -> str:
    """Return a value for a message, cut to `WIDTH` characters."""
    shown = repr(value)
    return shown if len(shown) <= WIDTH else shown[:WIDTH] + "…"
