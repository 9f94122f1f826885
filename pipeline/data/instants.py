"""Instants of dates and times with time zones: their ISO forms in UTC, by which they are compared."""

import datetime
import re

DAY = datetime.date(2000, 1, 1)  # day of a time without a date, so that its instant may lie on the day before or behind
_ZONE = re.compile(r"([-+])(\d{2}):?(\d{2})?")


def offset_of(zone: str) -> int:
    """Return the minutes that a spelled zone, such as `+02:00`, `-0530` or `+02`, is ahead of UTC."""
    found = _ZONE.fullmatch(zone)
    assert found is not None, "a form of dates reads no other zones"
    return (60 * int(found[2]) + int(found[3] or 0)) * (-1 if found[1] == "-" else 1)


def whole(key: str) -> str:
    """Leave the zeros out that end a fraction of a second, so that equal times are equal texts."""
    return key.rstrip("0").rstrip(".") if "." in key else key


def instant(key: str, offset: int) -> str:
    """Return the ISO form in UTC of a time in a zone.

    Args:
        key: ISO form without a zone, of a date and time or of a time, as `DateForm.read` returns it.
        offset: minutes that the zone is ahead of UTC.
    """
    return shifted(key if "T" in key else f"{DAY}T{key}", -offset)


def shifted(key: str, minutes: int) -> str:
    """Return the ISO form of a date and time so many minutes later, at most the ends of the years 1 and 9999."""
    begin, point, fraction = key.partition(".")
    try:
        moved = datetime.datetime.fromisoformat(begin) + datetime.timedelta(minutes=minutes)
    except OverflowError:
        moved = datetime.datetime.max.replace(microsecond=0) if minutes > 0 else datetime.datetime.min
    return f"{moved.isoformat()}{point}{fraction}"
