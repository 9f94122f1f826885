"""Code of a column of dates, times or date-times: a token for the year, the month, the day, the hour, …"""

import calendar
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.data.column_code import ALL, Allowed, ColumnCode, Permitted, SpecialValues
from pipeline.data.date_format import form_of

YEARS = 400  # years between the first and the last date at most
DATE, TIME = ("year", "month", "day"), ("hour", "minute", "second")
_ENDS = {"month": (1, 12), "day": (1, 31), "hour": (0, 23), "minute": (0, 59), "second": (0, 59)}
_NUMBER = re.compile(r"\d+")

Parts = tuple[int, ...]


class DateCode(ColumnCode):
    """Parts of a date from the year to the second, each a token of its own kind.

    Args:
        picture: form of the dates, such as `DD.MM.YYYY`.
        spellings: spellings of the column where the form leaves a choice, as `DateForm.read` returns them.
        low: parts of the earliest date.
        high: parts of the latest date.
        specials: spelled values that are no such dates, or that are written differently.
    """

    kind = "date"

    def __init__(
        self, picture: str, spellings: Iterable[str], low: Sequence[int], high: Sequence[int], specials: Iterable[str]
    ) -> None:
        self.form, self.spellings = form_of(picture), sorted(spellings)
        kind = self.form.kind
        times = TIME if "ss" in picture else TIME[:2]
        self.names = (DATE if kind != "time" else ()) + (times if kind != "date" else ())
        self.low, self.high = tuple(low)[: len(self.names)], tuple(high)[: len(self.names)]
        self.specials = SpecialValues(specials)
        self._ends = [(self.low[0], self.high[0]) if name == "year" else _ENDS[name] for name in self.names]
        self._starts = [len(self.specials)]
        for first, last in self._ends:
            self._starts.append(self._starts[-1] + last - first + 1)
        self.size = self._starts.pop()
        self.longest = len(self.names)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "DateCode":
        """Create the code from its form, range and special values."""
        return cls(stored["form"], stored["spellings"], stored["low"], stored["high"], stored["specials"])

    def to_json(self) -> dict[str, Any]:
        """Describe the form, the range and the special values."""
        return {
            "kind": self.kind,
            "form": self.form.picture,
            "spellings": self.spellings,
            "low": list(self.low),
            "high": list(self.high),
            "specials": self.specials.values,
        }

    def parts(self, spelled: str) -> Parts | None:
        """Return the parts of a date; None if it is none of the column, or is written differently."""
        found = self.form.read(spelled)
        if found is None or self.form.write(found[0], self.spellings) != spelled:
            return None
        parts = parts_of(found[0])[: self.longest]
        return parts if self.low <= parts <= self.high else None

    def encode(self, spelled: str) -> list[int] | None:
        """Return the token of a special value, or those of the parts."""
        if (token := self.specials.tokens.get(spelled)) is not None:
            return [token]
        parts = self.parts(spelled)
        if parts is None:
            return None
        ends = zip(self._starts, self._ends, parts, strict=True)
        return [start + part - first for start, (first, _), part in ends]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the special value, or the date."""
        if len(tokens) == 1 and tokens[0] < len(self.specials):
            return self.specials.values[tokens[0]]
        if len(tokens) != self.longest:
            return None
        parts = self._read(tokens)
        if any(not first <= part <= last for part, (first, last) in zip(parts, self._ends, strict=True)):
            return None
        if "year" in self.names and parts[2] > calendar.monthrange(*parts[:2])[1]:
            return None
        return self.form.write(self._key(parts), self.spellings)

    def _read(self, tokens: Sequence[int]) -> Parts:
        return tuple(
            token - start + first for token, start, (first, _) in zip(tokens, self._starts, self._ends, strict=False)
        )

    def _key(self, parts: Parts) -> str:
        """Return the ISO form of parts."""
        date = parts[:3] if "year" in self.names else ()
        written = [f"{date[0]:04}-{date[1]:02}-{date[2]:02}"] if date else []
        if time := parts[len(date) :]:
            written.append(":".join(f"{part:02}" for part in time))
        return "T".join(written)

    def allowed(self, prefix: Sequence[int], permitted: Permitted | None = None) -> Allowed:
        """Return the special values and the parts that begin a permitted date."""
        permitted = permitted or ALL
        if prefix and prefix[0] < len(self.specials):
            return ()
        known = self._read(prefix)
        if len(known) == self.longest:
            return ()
        special = () if prefix else self.specials.permitted(permitted.specials)
        first, last = self._ends[len(known)]
        start = self._starts[len(known)]
        return special + tuple(
            start + part - first for part in range(first, last + 1) if self._any((*known, part), permitted)
        )

    def _any(self, known: Parts, permitted: Permitted) -> bool:
        """Return True if a permitted date begins with these parts."""
        low, high = self._completed(known, 0), self._completed(known, 1)
        if low is None or high is None:
            return False
        low = max(low, self.low, self.low if permitted.low is None else permitted.low)
        high = min(high, self.high, self.high if permitted.high is None else permitted.high)
        if low > high:
            return False
        if permitted.only is not None:
            return any(low <= date <= high and date not in permitted.excluded for date in permitted.only)
        return low != high or low not in permitted.excluded

    def _completed(self, known: Parts, end: int) -> Parts | None:
        """Return the earliest or latest date that begins with these parts; None if there is none."""
        parts = list(known)
        for name, ends in list(zip(self.names, self._ends, strict=True))[len(known) :]:
            last = calendar.monthrange(parts[0], parts[1])[1] if name == "day" else ends[1]
            parts.append(last if end else ends[0])
        dated = "year" in self.names
        return None if dated and parts[2] > calendar.monthrange(parts[0], parts[1])[1] else tuple(parts)

    def name(self, token: int) -> str:
        """Return the special value, or the part with its kind."""
        if token < len(self.specials):
            return self.specials.values[token]
        number = max(number for number, start in enumerate(self._starts) if start <= token)
        return f"{self.names[number]} {token - self._starts[number] + self._ends[number][0]}"


def parts_of(key: str) -> Parts:
    """Return the numbers of an ISO form: year, month, day, hour, minute, second, as far as it has them."""
    return tuple(int(number) for number in _NUMBER.findall(key.partition(".")[0]))
