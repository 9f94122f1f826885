"""Code of a column of dates, times or date-times: a token for the year, the month, the day, the hour, …"""

import calendar
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.data.column_code import ALL, Allowed, ColumnCode, Permitted, SpecialValues
from pipeline.data.date_format import form_of
from pipeline.data.instants import offset_of

YEARS = 400  # years between the first and the last date from which the century has a token of its own
DATE, TIME = ("year", "month", "day"), ("hour", "minute", "second")
_ENDS = {"month": (1, 12), "day": (1, 31), "hour": (0, 23), "minute": (0, 59), "second": (0, 59)}
_NUMBER = re.compile(r"\d+")

Parts = tuple[int, ...]


class DateCode(ColumnCode):
    """Parts of a date from the year to the second, each a token of its own kind.

    Dates over more than `YEARS` years have the century and the year in it, two parts. The digits of a fraction of a
    second are a part each. A zone, which has no place in the order, is the last part.

    Args:
        picture: form of the dates, such as `DD.MM.YYYY`.
        spellings: spellings of the column where the form leaves a choice, as `DateForm.read` returns them.
        low: numbers of the earliest date, as `parts_of` returns them.
        high: numbers of the latest date.
        specials: spelled values that are no such dates, or that are written differently.
        zones: spelled zones of the column; one at least for a form with a zone.
    """

    kind = "date"

    def __init__(
        self,
        picture: str,
        spellings: Iterable[str],
        low: Sequence[int],
        high: Sequence[int],
        specials: Iterable[str],
        zones: Iterable[str] = (),
    ) -> None:
        self.form, self.spellings = form_of(picture), sorted(spellings)
        kind = self.form.kind
        self.zoned, self.zones = "z" in picture, sorted(zones)
        self._first, self._last = list(low), list(high)
        self._dated = kind != "time"
        self._wide = self._dated and high[0] - low[0] > YEARS
        self._fraction = max((int(one) for one in self.spellings if one.isdigit()), default=0)
        times = (*TIME, *(f"1e-{place + 1} s" for place in range(self._fraction))) if "ss" in picture else TIME[:2]
        dates = ("century", *DATE) if self._wide else DATE
        self.names = (dates if self._dated else ()) + (times if kind != "date" else ())
        self.low, self.high = self.of_numbers(low), self.of_numbers(high)
        self.specials = SpecialValues(specials)
        ends = {**_ENDS, "century": (self.low[0], self.high[0])}
        ends["year"] = (0, 99) if self._wide else (self.low[0], self.high[0])
        self._ends = [ends.get(name, (0, 9)) for name in self.names]
        self._ends += [(0, max(len(self.zones) - 1, 0))] * self.zoned
        self._starts = [len(self.specials)]
        for first, last in self._ends:
            self._starts.append(self._starts[-1] + last - first + 1)
        self.size = self._starts.pop()
        self.longest = len(self._ends)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "DateCode":
        """Create the code from its form, range and special values."""
        ends = stored["low"], stored["high"]
        return cls(stored["form"], stored["spellings"], *ends, stored["specials"], stored.get("zones", ()))

    def to_json(self) -> dict[str, Any]:
        """Describe the form, the range, the special values and the zones."""
        return {
            "kind": self.kind,
            "form": self.form.picture,
            "spellings": self.spellings,
            "low": self._first,
            "high": self._last,
            "specials": self.specials.values,
            "zones": self.zones,
        }

    def of_numbers(self, numbers: Sequence[int]) -> Parts:
        """Return the parts, without the zone, of the numbers of an ISO form; those that it lacks are 0."""
        year = tuple(divmod(numbers[0], 100)) if self._wide else tuple(numbers[:1])
        parts = (*year, *numbers[1:])[: len(self.names)]
        return (*parts, *[0] * (len(self.names) - len(parts)))

    @property
    def offsets(self) -> list[int]:
        """Minutes that each zone is ahead of UTC; one number for a form without different zones."""
        return [offset_of(zone) for zone in self.zones] if self.zoned and self.zones else [0]

    def has_rest(self, numbers: Sequence[int]) -> bool:
        """Return True if the numbers of an ISO form are later than their parts, such as the seconds of `hh:mm`."""
        return any(numbers[len(self.names) - self._wide :])

    def zone(self, spelled: str) -> str | None:
        """Return the zone of a date of the form; None if it has none."""
        return self.form.zone(spelled)

    def parts(self, spelled: str) -> Parts | None:
        """Return the parts of a date without its zone; None if it is none of the column, or is written differently."""
        found = self.form.read(spelled)
        if found is None:
            return None
        parts, zone = self.of_numbers(parts_of(found[0])), self.zone(spelled)
        if not self.low <= parts <= self.high or self.form.write(self._key(parts), self.spellings, zone) != spelled:
            return None
        return parts

    def encode(self, spelled: str) -> list[int] | None:
        """Return the token of a special value, or those of the parts."""
        if (token := self.specials.tokens.get(spelled)) is not None:
            return [token]
        parts = self.parts(spelled)
        if parts is None:
            return None
        if self.zoned:
            if (zone := self.zone(spelled)) not in self.zones:
                return None
            parts = (*parts, self.zones.index(zone))
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
        if self._dated and self._day(parts) > self._days(parts):
            return None
        zone = self.zones[parts[-1]] if self.zoned else None
        return self.form.write(self._key(parts[: len(self.names)]), self.spellings, zone)

    def _read(self, tokens: Sequence[int]) -> Parts:
        return tuple(
            token - start + first for token, start, (first, _) in zip(tokens, self._starts, self._ends, strict=False)
        )

    def _numbers(self, parts: Sequence[int]) -> Parts:
        """Return the numbers of an ISO form of parts."""
        return (100 * parts[0] + parts[1], *parts[2:]) if self._wide else tuple(parts)

    def _day(self, parts: Sequence[int]) -> int:
        return self._numbers(parts)[2]

    def _days(self, parts: Sequence[int]) -> int:
        """Return the number of days of the month; 0 where the calendar has no such year."""
        year, month = self._numbers(parts)[:2]
        return calendar.monthrange(year, month)[1] if 1 <= year <= 9999 else 0

    def _key(self, parts: Parts) -> str:
        """Return the ISO form of parts."""
        numbers = self._numbers(parts)
        date = numbers[:3] if self._dated else ()
        written = [f"{date[0]:04}-{date[1]:02}-{date[2]:02}"] if date else []
        time, fraction = numbers[len(date) : len(date) + 3], numbers[len(date) + 3 :]
        if time:
            written.append(":".join(f"{part:02}" for part in time) + "." * bool(fraction) + "".join(map(str, fraction)))
        return "T".join(written)

    def allowed(self, prefix: Sequence[int], permitted: tuple[Permitted, ...] | None = None) -> Allowed:
        """Return the special values and the parts that begin a permitted date.

        Args:
            prefix: the first tokens of a value.
            permitted: the dates that are permitted in each of `offsets`, in local time; None for all.
        """
        by_zone = permitted or (ALL,)
        if prefix and prefix[0] < len(self.specials):
            return ()
        known = self._read(prefix)
        if len(known) == self.longest:
            return ()
        special = () if prefix else self.specials.permitted(by_zone[0].specials)
        first, last = self._ends[len(known)]
        start = self._starts[len(known)]
        if len(known) == len(self.names):
            zones = range(last + 1)
            return tuple(start + zone for zone in zones if len(by_zone) == 1 or self._any(known, by_zone[zone]))
        return special + tuple(
            start + part - first
            for part in range(first, last + 1)
            if any(self._any((*known, part), one) for one in by_zone)
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
        while low in permitted.excluded and low < high:
            low = self._after(low)
        return low not in permitted.excluded

    def _after(self, date: Parts) -> Parts:
        """Return the next date; the same one if it is the last."""
        for place in reversed(range(len(date))):
            for part in range(date[place] + 1, self._ends[place][1] + 1):
                if (found := self._completed((*date[:place], part), 0)) is not None:
                    return found
        return date

    def _completed(self, known: Parts, end: int) -> Parts | None:
        """Return the earliest or latest date that begins with these parts; None if there is none."""
        parts = list(known)
        for name, ends in list(zip(self.names, self._ends, strict=False))[len(known) :]:
            last = self._days(parts) if name == "day" else ends[1]
            first = 1 if name == "year" and parts == [0] else ends[0]  # no year 0
            parts.append(last if end else first)
        return None if self._dated and self._day(parts) > self._days(parts) else tuple(parts)

    def name(self, token: int) -> str:
        """Return the special value, or the part with its kind."""
        if token < len(self.specials):
            return self.specials.values[token]
        number = max(number for number, start in enumerate(self._starts) if start <= token)
        part = token - self._starts[number] + self._ends[number][0]
        return f"zone {self.zones[part]}" if number == len(self.names) else f"{self.names[number]} {part}"


def parts_of(key: str) -> Parts:
    """Return the numbers of an ISO form: year, month, day, hour, minute, second, and each digit of its fraction."""
    whole, _, fraction = key.partition(".")
    return (*(int(number) for number in _NUMBER.findall(whole)), *map(int, fraction))
