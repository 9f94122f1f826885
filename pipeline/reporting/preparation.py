"""Report of a preparation for a terminal: splits, columns, texts kept and left out, labels, and the round trip."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.column_survey import outliers
from pipeline.data.documents import SPLITS
from pipeline.data.round_trip import NAME

WIDTH = 28  # characters of a cell of the column report
LISTED = 5  # outliers, labels or differences


def report(statistics: Mapping[str, Any], folder: Path) -> str:
    """Format the statistics of prepared data.

    Args:
        statistics: content of `statistics.json`.
        folder: folder of the prepared data.
    """
    blocks = [
        _splits(statistics),
        _columns((statistics.get("source") or {}).get("columns") or {}),
        [
            *_left_out(statistics.get("source") or {}),
            *_texts(statistics),
            *_labels(statistics),
            *_round_trip(statistics, folder),
        ],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _splits(statistics: Mapping[str, Any]) -> list[str]:
    lines = [f"{'split':<12}{'sentences':>12}{'tokens':>14}{'mean length':>14}"]
    for part in SPLITS:
        row = statistics[part]
        lines.append(f"{part:<12}{row['sentences']:>12,}{row['tokens']:>14,}{row['mean_length']:>14.1f}")
    return [*lines, f"{statistics['vocabulary_size']:,} tokens in the vocabulary"]


def _columns(columns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Format the column report, and name the cells that are of another type than their column."""
    rows = [("column", "type", "format", "distinct", "missing", "range", "examples")]
    for name, column in columns.items():
        if (seen := column.get("seen")) is None:
            continue
        distinct = f"{seen['distinct']:,}" if seen["exactly"] else f"~{seen['distinct']:,}"
        examples = ", ".join(_cell(example, WIDTH // 2) for example in seen["examples"])
        rows.append((name, column["kind"], seen["form"], distinct, f"{seen['missing']:,}", seen["range"], examples))
    if len(rows) == 1:
        return []
    cells = [[_cell(cell, WIDTH) for cell in row[:-1]] + [row[-1]] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(_padded, row, widths)).rstrip() for row in cells]
    found = list(outliers(columns))
    for name, kind, text, line, count in found[:LISTED]:
        times = f" ({count:,} times)" if count > 1 else ""
        lines.append(f"column {name!r}: {text!r} in line {line}{times} is no {kind}; it is kept as it is")
    if len(found) > LISTED:
        lines.append(f"and {len(found) - LISTED:,} more such values (statistics.json)")
    lines += [
        f"column {name!r}: dates may be {column['form']} or {' or '.join(column['or'])}; the values do not tell"
        for name, column in columns.items()
        if column.get("or")
    ]
    return [*lines, "a type that is wrong is set with --COLUMN_TYPES column=type"]


def _left_out(source: Mapping[str, Any]) -> Iterator[str]:
    """Name the columns of a table that are neither text nor label, and that no row template names."""
    kept = {source.get("text_column"), source.get("label_column"), *(source.get("columns") or {})}
    names = [repr(name) for name in source.get("order", ()) if name not in kept]
    if names:
        shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")
        yield f"columns that are not kept: {shown}"


def _texts(statistics: Mapping[str, Any]) -> Iterator[str]:
    """Say how many texts are kept and left out, by reason and by label."""
    texts = statistics["texts"]
    total = texts["kept"] + sum(texts["dropped"].values())
    cut = f", {texts['pieces']:,} of them pieces of longer ones" if texts["pieces"] else ""
    yield f"{texts['kept']:,} of {total:,} texts are kept{cut}{_reasons(texts['dropped'], ': left out are ')}"
    if texts["without_text"]:
        yield f"{texts['without_text']:,} of {texts['rows']:,} rows have no text"
    for label, counts in _some(texts["dropped_by_label"]):
        yield f"  of label {label!r}{_reasons(counts, ' ')}"
    yield from (f"  {remedy}" for remedy in texts["remedies"])


def _reasons(counts: Mapping[str, int], before: str) -> str:
    return before + ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) if counts else ""


def _labels(statistics: Mapping[str, Any]) -> Iterator[str]:
    """Name the labels that no training sentence has."""
    if untrained := statistics.get("labels_without_training"):
        names = ", ".join(map(repr, untrained[:LISTED])) + (" …" if len(untrained) > LISTED else "")
        yield f"no training sentence has the label {names}: sample.py cannot be asked for it"


def _round_trip(statistics: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Say how much of the text comes back as it was."""
    if (trip := statistics.get("round_trip")) is None:
        return
    share = trip["share"] if trip["identical"] == trip["documents"] else min(trip["share"], 99.9)
    (path,) = folder.glob(f"{NAME}.*")
    yield (f"{share:.1f} % of {trip['documents']:,} training documents come back as they were from tokens; see {path}")
    yield from (f"  {difference}" for difference in trip["differences"][:LISTED])
    if len(trip["differences"]) > LISTED:
        yield "  … (statistics.json lists more)"
    if trip["identical"] < trip["documents"] and statistics["settings"]["clean"] == "paper":
        yield "  --CLEAN paper lowers the case and keeps letters, digits, spaces and , ' < > . only"


def _some(counts: Mapping[str, Mapping[str, int]]) -> Sequence[tuple[str, Mapping[str, int]]]:
    return sorted(counts.items(), key=lambda item: -sum(item[1].values()))[:LISTED]


def _cell(text: str, width: int) -> str:
    """Return a text on one line, cut to a width."""
    shown = "".join(character if character.isprintable() else "·" for character in str(text))
    while _width(shown) > width:
        shown = shown[:-2] + "…"
    return shown


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes: East Asian characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
