"""Texts of the training split, to find texts that repeat one of them or share a long run of words with one."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.sampling import LONG_RUN
from pipeline.data.column_types import FreeTextColumn, column_type
from pipeline.data.dataset import PreparedData
from pipeline.data.row_template import RowTemplate
from pipeline.generation.new_identifiers import columns_beside_copies
from pipeline.runtime.progress import bar

AT_ONCE = 10_000  # texts that are read at once, which bounds the memory
_STEP = np.uint64(0x9E3779B97F4A7C15)  # base of the polynomials that code runs
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese. Each character is a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Repeats:
    """Texts that repeat training texts, of M texts.

    Args:
        exact: [M], bool: True if the text is a training text, apart from case and white space at its ends.
        run: [M], bool: True if the text shares `LONG_RUN` words or more in a row with a training text.
    """

    exact: np.ndarray
    run: np.ndarray

    def shares(self) -> dict[str, float]:
        """Return the shares of texts that repeat a training text in either sense, by the names of their metrics."""
        return {
            "exact_training_fraction": float(self.exact.mean()),
            "training_run_fraction": float(self.run.mean()),
        }

    @property
    def numbers(self) -> list[int]:
        """Numbers of the texts that repeat a training text in either sense, in order."""
        return np.flatnonzero(self.exact | self.run).tolist()


class KnownTexts:
    """Index of training texts, as hashes of 64 bits: two texts or runs collide with a chance of about 2^-64.

    Words are what white space divides, without the marks at their ends and apart from case. In scripts without spaces
    between words, each character is a word.

    A row of a table is the values of its columns, whatever words the template has between them. It repeats a row with
    the same values, identifiers apart, which are new in each sample. Runs are searched inside the values of columns of
    free text: the words of a template, and the choices of a column of few values, are those of many rows.

    Args:
        texts: training texts.
        template: template that made the texts of rows; None if the texts are no rows of a table.
        free: columns of free text.
        beside: columns whose values say nothing of copies.
        total: number of training texts, for the progress bar; no bar if None.
    """

    def __init__(
        self,
        texts: Iterable[str],
        template: RowTemplate | None = None,
        free: Sequence[str] = (),
        beside: Sequence[str] = (),
        total: int | None = None,
    ) -> None:
        self._template, self._free, self._beside = template, free, frozenset(beside)
        self._words: dict[str, int] = {}
        exact, runs = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        batches = _batches(texts)
        if total is not None:
            batches = bar(batches, total=-(-total // AT_ONCE), desc="read training texts", unit="batch")
        for batch in batches:
            keys, codes, _ = self._coded(batch)
            exact.append(keys)
            runs.append(np.unique(codes))
        self._exact, self._runs = np.unique(np.concatenate(exact)), np.unique(np.concatenate(runs))

    @classmethod
    def of(cls, data: PreparedData) -> "KnownTexts":
        """Index the training split of prepared data."""
        source: dict[str, Any] = data.statistics.get("source") or {}
        template, free, train = None, [], data.splits["train"]
        if source.get("row_template") is not None:
            columns = source["columns"]
            template = RowTemplate(source["row_template"], list(columns), "the data", source.get("lossless", False))
            free = [name for name in template.columns if isinstance(column_type(columns[name]), FreeTextColumn)]
        # As the tokenizer writes them, like every generated text: a lossy tokenizer changes case and white space.
        texts = (
            text
            for start in range(0, len(train), AT_ONCE)
            for text in data.tokenizer.decode_batch(train[start : start + AT_ONCE]["input_ids"])
        )
        return cls(texts, template, free, columns_beside_copies(data), len(train))

    def repeats(self, texts: Sequence[str]) -> Repeats:
        """Find the texts that repeat training texts. An empty text repeats none."""
        keys, codes, number = self._coded(texts)
        written = np.array([bool(text.strip()) for text in texts], dtype=bool)
        run = np.zeros(len(texts), dtype=bool)
        run[number[_contained(codes, self._runs)]] = True
        return Repeats(_contained(keys, self._exact) & written, run)

    def _coded(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hash M texts as wholes [M], hash their runs of `LONG_RUN` words [R], and number the texts of the runs [R]."""
        keys: list[int] = []
        words: list[int] = []
        number: list[int] = []
        left: list[int] = []
        for row, text in enumerate(texts):
            key, parts = self._parts(text)
            keys.append(_hash(key))
            for part in parts:
                codes = [code for word in _split(part) if (code := self._code(word))]
                words += codes
                number += [row] * len(codes)
                left += range(len(codes), 0, -1)
        starts = np.flatnonzero(np.array(left, dtype=np.int64) >= LONG_RUN)
        each = np.array(words, dtype=np.uint64)
        codes = np.zeros(len(starts), dtype=np.uint64)
        for offset in range(LONG_RUN):
            codes = codes * _STEP + each[starts + offset]
        return np.array(keys, dtype=np.uint64), codes, np.array(number, dtype=np.int64)[starts]

    def _parts(self, text: str) -> tuple[str, list[str]]:
        """Return what equal texts have in common, and the parts of a text in which runs are searched."""
        values = None if self._template is None else self._template.values(text)
        if values is None:  # also a sample that is no row: as a whole it may share a run with a value of a row
            return _plain(text), [text]
        key = "\0".join(_plain(value) for name, value in values.items() if name not in self._beside)
        return key, [values[name] for name in self._free]

    def _code(self, word: str) -> int:
        """Return the code of a word, apart from the marks at its ends; 0 if it is nothing but marks."""
        if (code := self._words.get(word)) is None:
            start, end = 0, len(word)
            while start < end and _is_mark(word[start]):
                start += 1
            while start < end and _is_mark(word[end - 1]):
                end -= 1
            code = self._words[word] = _hash(word[start:end]) if start < end else 0
        return code


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    """Yield `AT_ONCE` texts at a time; the last batch may have fewer."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _plain(text: str) -> str:
    """Return a text apart from case and white space at its ends."""
    return text.strip().casefold()


def _split(text: str) -> list[str]:
    """Split a text into its words, with the marks at their ends."""
    return _UNSPACED.sub(r" \g<0> ", text.casefold()).split()


def _is_mark(character: str) -> bool:
    """Return True for punctuation, symbols and control characters."""
    return unicodedata.category(character)[0] in "PSC"


def _hash(text: str) -> int:
    """Hash a text to 64 bits, never 0, and the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little") or 1


def _contained(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return for each value [N], bool, whether the sorted array has it."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    return known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
