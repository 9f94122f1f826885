"""Dates, times and date-times in the forms in which files have them; a whole column decides among the forms."""

import datetime
import functools
import itertools
import re
from collections.abc import Collection, Iterator, Mapping

from pipeline.data.cleaning import without_space
from pipeline.data.instants import instant, offset_of, whole

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_NUMBERS = {month[:3]: number for number, month in enumerate(_MONTHS, 1)}
_FIELDS = {
    "YYYY": r"(?P<year>\d{4})",
    "YY": r"(?P<year>\d{2})",
    "MM": r"(?P<month>\d{1,2})",
    "DD": r"(?P<day>\d{1,2})",
    "Month": rf"(?P<name>{'|'.join(_MONTHS)})",
    "Mon": rf"(?P<name>{'|'.join(month[:3] for month in _MONTHS)})",
    "hh": r"(?P<hour>\d{1,2})",
    "mm": r"(?P<minute>\d{2})",
    "ss": r"(?P<second>\d{2})",
    "fff": r"(?P<fraction>\d{1,9})",
    "am": r"(?P<half>[AaPp]\.?[Mm]\.?)",
    "+zz:zz": r"(?P<zone>[-+]\d{2}:\d{2})",
    "+zzzz": r"(?P<zone>[-+]\d{4})",
    "+zz": r"(?P<zone>[-+]\d{2})",
}
_DATES = (
    *("YYYY-MM-DD", "YYYY/MM/DD", "YYYY.MM.DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY", "DD-MM-YYYY", "MM-DD-YYYY"),
    *("DD.MM.YY", "DD/MM/YY", "MM/DD/YY", "DD Mon YYYY", "DD-Mon-YYYY", "DD-Mon-YY", "DD Month YYYY", "Mon DD, YYYY"),
    *("Month DD, YYYY", "Mon DD YYYY"),
)
_TIMES = ("hh:mm:ss", "hh:mm", "hh:mm:ss.fff", "hh:mm am", "hh:mmam", "hh:mm:ss am")
_IN_UTC = ("Z", " UTC")
_ZONES = (*_IN_UTC, "+zz:zz", "+zzzz", " +zzzz", " +zz:zz", "+zz")
_ALL_TIMES = (*_TIMES, *(f"{time}{zone}" for time, zone in itertools.product(_TIMES[:3], _ZONES)))
_FORMS = (
    *_DATES,
    *_TIMES,
    *(f"{date}{between}{time}" for date, between, time in itertools.product(_DATES, ("T", " ", ", "), _ALL_TIMES)),
    *_ALL_TIMES[len(_TIMES) :],
)
_PART = re.compile("|".join(re.escape(name) for name in sorted(_FIELDS, key=len, reverse=True)))


class DateForm:
    """A form of dates, times or date-times.

    Args:
        picture: the form, such as `YYYY-MM-DD hh:mm:ss`.
    """

    def __init__(self, picture: str) -> None:
        self.picture = picture
        expression, place = "", 0
        for part in _PART.finditer(picture):
            expression += re.escape(picture[place : part.start()]) + _FIELDS[part[0]]
            place = part.end()
        expression += re.escape(picture[place:])
        self._expression = re.compile(expression, re.ASCII)
        self._without_space = re.compile(expression.replace(r"\ ", "( ?)"), re.ASCII)

    @property
    def kind(self) -> str:
        """`date`, `time` or `date-time`."""
        date, time = "Y" in self.picture, "hh" in self.picture
        return "date-time" if date and time else ("date" if date else "time")

    @property
    def in_utc(self) -> bool:
        """True if every text is in UTC, which the form spells."""
        return self.picture.endswith(_IN_UTC)

    @property
    def has_zone(self) -> bool:
        """True if the form has a time zone, which is UTC or differs between texts."""
        return self.in_utc or "z" in self.picture

    def read(self, text: str) -> tuple[str, list[str]] | None:
        """Read a text; None if it is no such date.

        Returns:
            An ISO form without a zone, by which texts of this form sort.
            The spellings where the form leaves a choice: `padded` and `single` are one-digit days, months and hours
            with and without a zero; `am`, `a.m.`, `AM`, `A.M.` the half of the day; a number the digits of a fraction
            of a second.
        """
        found = self._expression.fullmatch(text)
        if found is None:
            return None
        parts = found.groupdict()
        try:
            date = _date(parts) if "year" in parts else ""
            time = _time(parts) if "hour" in parts else ""
        except ValueError:
            return None
        return f"{date}T{time}" if date and time else date + time, _spellings(parts)

    def zone(self, text: str) -> str | None:
        """Return the zone of a date as it is spelled; None for a text without one."""
        found = self._expression.fullmatch(text)
        return None if found is None else found.groupdict().get("zone")

    def comparable(self, text: str) -> str | None:
        """Return an ISO form by which dates and times are compared: of a form with a time zone, in UTC.

        A time with a zone is that of one day, and has a date, since in UTC it may be on the day before or behind.
        None if the text is no such date.
        """
        found = self.read(text)
        if found is None:
            return None
        key = whole(found[0])
        return instant(key, offset_of(self.zone(text) or "+00")) if self.has_zone else key

    def write(self, key: str, spellings: Collection[str] = (), zone: str | None = None) -> str | None:
        """Write a date in this form.

        Args:
            key: ISO form without a zone, as `read` returns it.
            spellings: spellings of a column; numbers below ten have a zero unless all of the column have none.
            zone: spelled zone, for a form that has one.

        Returns:
            The text; None if the form has a zone or a fraction of a second, which is not given.
        """
        parts = _PART.findall(self.picture)
        key, _, fraction = key.partition(".")
        if ("fff" in parts and not fraction) or (zone is None and any("z" in part for part in parts)):
            return None
        numbers = [int(number) for number in re.findall(r"\d+", key)]
        date = numbers[:3] if "Y" in self.picture else [1, 1, 1]
        time = [*numbers[3 if "Y" in self.picture else 0 :], 0, 0, 0][:3]
        width = "1" if "single" in spellings and "padded" not in spellings else "02"
        half = next((one for one in sorted(spellings) if one[:1] in "aA" and one[1:2] in ".mM"), "am")
        hour = time[0] if "am" not in parts else (time[0] + 11) % 12 + 1
        written = {
            "YYYY": f"{date[0]:04}",
            "YY": f"{date[0] % 100:02}",
            "MM": f"{date[1]:{width}}",
            "DD": f"{date[2]:{width}}",
            "Month": _MONTHS[date[1] - 1],
            "Mon": _MONTHS[date[1] - 1][:3],
            "hh": f"{hour:{width}}",
            "mm": f"{time[1]:02}",
            "ss": f"{time[2]:02}",
            "fff": fraction,
            **dict.fromkeys(("+zz:zz", "+zzzz", "+zz"), zone or ""),
            "am": half if time[0] < 12 else half.replace("a", "p").replace("A", "P"),
        }
        return _PART.sub(lambda part: written[part[0]], self.picture)

    def spaced(self, text: str) -> str | None:
        """Return a text, whose white space is lost or added to, with the spaces of the form; None if it is no date."""
        found = self._without_space.fullmatch(without_space(text))
        if found is None:
            return None
        squeezed, place, spaced = found.string, 0, ""
        for group in range(1, len(found.groups()) + 1):
            if found[group] == "":
                spaced += squeezed[place : found.start(group)] + " "
                place = found.start(group)
        return spaced + squeezed[place:]


def _spellings(parts: Mapping[str, str | None]) -> list[str]:
    found = []
    for name in ("month", "day", "hour"):
        if (value := parts.get(name)) is not None and (len(value) == 1 or value[0] == "0"):
            found.append("single" if len(value) == 1 else "padded")
    if (half := parts.get("half")) is not None:
        found.append(half.replace("p", "a").replace("P", "A"))
    if (fraction := parts.get("fraction")) is not None:
        found.append(str(len(fraction)))
    return found


@functools.lru_cache(maxsize=256)
def form_of(picture: str) -> DateForm:
    """Return the form of a picture."""
    return DateForm(picture)


def forms(text: str) -> Iterator[str]:
    """Return the pictures of all forms that a text has."""
    if not 4 <= len(text) <= 40 or not any(character.isdigit() for character in text):
        return
    shape = _shape(text)
    yield from (picture for picture in _by_shape().get(shape, ()) if form_of(picture).read(text) is not None)


@functools.cache
def _by_shape() -> dict[str, list[str]]:
    """Group the forms by the marks between their digits and letters."""
    found: dict[str, list[str]] = {}
    for picture in _FORMS:
        text = re.sub(
            "YYYY|YY|MM|DD|hh|mm|ss|fff|zz:zz|zzzz|zz", lambda part: "1:1" if ":" in part[0] else "1", picture
        )
        for half in ("a.m.", "am") if " am" in text or text.endswith("am") else ("",):
            spelled = text[:-2] + half if half else text
            for sign in "+-" if "+" in spelled else "+":
                shape = _shape(spelled.replace("+", sign))
                if picture not in found.setdefault(shape, []):
                    found[shape].append(picture)
    return found


def _shape(text: str) -> str:
    """Replace digits and letters by one character for each run."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "1", text))


def _date(parts: Mapping[str, str | None]) -> str:
    year, day = parts["year"] or "", int(parts["day"] or 0)
    name = parts.get("name")
    month = int(parts["month"] or 0) if name is None else _NUMBERS[name[:3]]
    century = ("20" if year < "69" else "19") if len(year) == 2 else ""  # as in POSIX
    return datetime.date(int(century + year), month, day).isoformat()


def _time(parts: Mapping[str, str | None]) -> str:
    hour, half = int(parts["hour"] or 0), parts.get("half")
    if half is not None:
        if not 1 <= hour <= 12:
            raise ValueError("no hour of half a day")
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    second = parts.get("second")
    time = datetime.time(hour, int(parts["minute"] or 0), int(second or 0)).isoformat()
    return f"{time}.{parts['fraction']}" if parts.get("fraction") else time
