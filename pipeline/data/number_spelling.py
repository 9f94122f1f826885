"""Parts of a number as it is spelled: sign, currency or unit, thousands and decimal marks, decimals, exponent."""

import re
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

# Thousands marks by decimal mark. A whole column has one of each.
THOUSANDS = {".": ",' ’\u00a0\u202f", ",": ". \u00a0\u202f'’"}
_SPACE = "[ \t\u00a0\u202f]"
# Any three capitals would make numbers of codes such as ABC123.
_CODES = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KRW MAD MXN MYR NGN NOK "
    "NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)
_CURRENCY = rf"(?:[A-Z]{{1,2}}?\$|[$¢£¤¥֏؋৲৳฿₠-⃀﷼]|{'|'.join(_CODES.split())}|kr|Kč|zł|Fr\.|Rs\.?|Ft)"
# Units of measurement. Those of one letter need a space, and are few: 12A, 5m and 12 B are numbers of seats and houses.
_LETTERS = "m g s h d l L W V"
MEASURES = frozenset(
    "µm mm cm dm km in inches ft yd mi nm m² m2 km² km2 ha acres sqft m³ m3 cm³ cm3 µg mg kg lb lbs oz ml mL cl "
    "dl dL gal ms µs ns sec secs min mins minutes hrs hours days weeks months yr yrs years km/h kph mph m/s kn kt °C "
    "°F mV kV mA Ah mAh kW MW GW kWh MWh Wh hp kJ MJ cal kcal Pa hPa kPa MPa bar mbar psi mmHg Hz kHz MHz GHz dB "
    "bit kbit Mbit kB KB MB GB TB KiB MiB GiB TiB kbps Mbps Gbps px pt dpi rpm bpm mg/dL mg/dl mmol/L mmol/l g/L g/l "
    f"µg/m³ ppm ppb lm lx ° {_LETTERS}".split()
)
NEGATIVE = ("-", "−", "(")
_EXPONENT = 6  # characters of an exponent at most; longer ones belong to names

_LONGEST = 1000  # characters of a number with marks or units: a text of many spaces would take long


class Spelled(NamedTuple):
    """Parts of a number as it is spelled.

    Args:
        before: unit before the digits, with its spaces.
        outer_sign: sign before the unit.
        sign: sign behind the unit, which is every sign of a number without a unit before it; `(` if the number is
            in parentheses with its units, the negative numbers of accounting.
        whole: digits before the decimal mark, without thousands marks.
        thousands: thousands mark that divides the digits, or empty.
        decimals: digits behind the decimal mark; None without a mark.
        exponent: exponent with its letter, or empty.
        behind: unit behind the digits, with its spaces.
    """

    before: str
    outer_sign: str
    sign: str
    whole: str
    thousands: str
    decimals: str | None
    exponent: str
    behind: str

    @property
    def value(self) -> Decimal:
        """Return the exact value, in the column's unit."""
        sign = "-" if (self.sign or self.outer_sign) in NEGATIVE else ""
        decimals = f".{self.decimals}" if self.decimals else ""
        return Decimal(f"{sign}{self.whole or 0}{decimals}{self.exponent}")

    @property
    def measure(self) -> str:
        """Unit of measurement, or empty: a currency and a per cent sign are none."""
        return unit if (unit := self.behind.strip()) in MEASURES else ""

    @property
    def padded(self) -> bool:
        """True if a zero leads the digits, as in 007."""
        return len(self.whole) > 1 and self.whole[0] == "0"


def _expression(decimal: str) -> re.Pattern[str]:
    mark = re.escape(decimal)
    long, short = ("|".join(map(re.escape, units)) for units in (sorted(MEASURES - {*_LETTERS}), _LETTERS.split()))
    return re.compile(
        rf"([-+−]?)({_SPACE}*(?:{_CURRENCY}{_SPACE}?)?)([-+−]?)"
        rf"([0-9]{{1,3}}([{re.escape(THOUSANDS[decimal])}])[0-9]{{3}}(?:\5[0-9]{{3}})*|[0-9]*)"
        rf"(?:{mark}([0-9]*))?([eE][-+]?[0-9]+)?"
        rf"((?:{_SPACE}?(?:{_CURRENCY}|[%‰]|{long})|{_SPACE}(?:{short}))?{_SPACE}*)"
    )


_EXPRESSIONS = {decimal: _expression(decimal) for decimal in THOUSANDS}
_PLAIN = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")


def parse(text: str, decimal: str = ".") -> Spelled | None:
    """Read a number with a decimal mark, with a currency, a per cent sign, a unit or none; None if it is no number."""
    if (plain := _PLAIN.fullmatch(text)) is not None and (decimal == "." or plain[3] is None):
        sign, whole, decimals = plain[1], plain[2], plain[3]
        return Spelled("", "", sign, whole, "", decimals, "", "")
    return _parsed(text, decimal)


@lru_cache(maxsize=32)  # the format reads a text again that the column has read
def _parsed(text: str, decimal: str) -> Spelled | None:
    if text[:1] == "(" and text[-1:] == ")":
        inner = _bare(text[1:-1], decimal)
        return None if inner is None or inner.sign or inner.outer_sign else inner._replace(sign="(")
    return _bare(text, decimal)


def _bare(text: str, decimal: str) -> Spelled | None:
    """Read a number without parentheses around it."""
    found = _EXPRESSIONS[decimal].fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    outer, before, sign, whole, thousands, _, exponent, behind = found.groups(default="")
    decimals: str | None = found[6]
    if not (whole or decimals) or (outer and sign) or len(exponent) > _EXPONENT:
        return None
    if outer and not before:
        outer, sign = "", outer
    if thousands:
        whole = whole.replace(thousands, "")
    return Spelled(before, outer, sign, whole, thousands, decimals, exponent, behind)
