"""Format of the numbers of a column: marks, units, signs, decimals, leading zeros, exponents.

A number that occurs in the data keeps its spelling; a new one is written as the column's numbers are.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from pipeline.data.cleaning import without_space
from pipeline.data.number_spelling import MEASURES, Spelled, parse

UNITS = 4  # different units of a column at most
LONG = 16  # digits before the decimal mark from which a column with exponents writes one, as Python does


@dataclass
class NumberFormat:
    """The spellings of the numbers of a column.

    Args:
        thousands: thousands mark, or empty.
        decimal: decimal mark.
        before: units before the digits, the most frequent one first.
        behind: units behind the digits, the most frequent one first.
        decimals: smallest and largest number of decimals without an exponent; empty if all numbers have one.
        marks: spellings of the decimal part that occur: `none`, `some`, `bare` (a mark without digits, as in `5.`).
        flags: further spellings that occur: `plus`, `typographic minus`, `outer` (a sign before the unit), `inner`,
            `grouped`, `ungrouped` (four digits and more without thousands marks), `no whole` (as in `.5`), `always
            plus`, `parentheses` (around negative numbers).
        exponents: shapes of exponents that occur, such as `e-00`: letter, sign and the least number of digits.
        mantissa: smallest and largest number of decimals with an exponent.
        width: digits before the decimal mark if zeros lead them, otherwise 0.
    """

    thousands: str = ""
    decimal: str = "."
    before: list[str] = field(default_factory=lambda: [""])
    behind: list[str] = field(default_factory=lambda: [""])
    decimals: list[int] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    exponents: list[str] = field(default_factory=list)
    mantissa: list[int] = field(default_factory=list)
    width: int = 0

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "NumberFormat":
        """Create the format from its JSON."""
        return cls(**stored)

    def to_json(self) -> dict[str, Any]:
        """Return the parts that differ from the defaults."""
        plain = asdict(NumberFormat())
        return {name: value for name, value in asdict(self).items() if value != plain[name]}

    def read(self, text: str) -> Decimal:
        """Read a number; without the column's marks and units, it may also be a plain one.

        Raises:
            ValueError: the text is no number, or one in another unit of measurement.
        """
        found = self._parse(text)
        if found is None and ((found := parse(text.strip())) is None or found.thousands):
            raise ValueError("no number")
        if found.measure and found.measure != self.measure:
            raise ValueError("a number in another unit")
        return found.value

    @property
    def measure(self) -> str:
        """The unit of measurement of the column, or empty."""
        return next((unit for unit in map(str.strip, self.behind) if unit in MEASURES), "")

    def spaced(self, text: str) -> str:
        """Spell a unit behind a number as the column does, where white space or capitals were lost."""
        for unit in self.behind:
            bare = without_space(unit)
            if bare and text.lower().endswith(bare.lower()):
                return text[: -len(bare)] + unit
        return text

    def fits(self, text: str) -> bool:
        """Return True if a number is spelled like numbers of the column."""
        found = self._parse(text)
        if found is None or found.before not in self.before or found.behind not in self.behind:
            return False
        if found.exponent:
            low, high = self.mantissa or (0, -1)
            if not any(_has_shape(found.exponent, shape) for shape in self._shapes()):
                return False
        else:
            low, high = self.decimals or (0, -1)
        return (
            low <= len(found.decimals or "") <= high
            and _mark(found) in self.marks
            and _flags(found) <= {*self.flags, *(() if "grouped" in self.flags else ("ungrouped",))}
            and (len(found.whole) == self.width if self.width else not found.padded)
            and ("always plus" not in self.flags or bool(found.sign or found.outer_sign) or not found.value)
        )

    def write(self, value: Decimal) -> str:
        """Write a number as the column's numbers are written, rounded to their decimals."""
        if not self.decimals or (self.exponents and value and self._is_far(value)):
            digits = self._exponential(value.copy_abs())
        else:
            digits = self._positional(value.copy_abs())
        zero = not any(digit in digits.lower().partition("e")[0] for digit in "123456789")
        sign = "" if zero else ("-" if value < 0 else "+" * ("always plus" in self.flags))
        if sign == "-" and "parentheses" in self.flags:
            return f"({self.before[0]}{digits}{self.behind[0]})"
        return self._with_unit(sign.replace("-", "−") if "typographic minus" in self.flags else sign, digits)

    def _parse(self, text: str) -> Spelled | None:
        found = parse(text, self.decimal)
        return None if found is None or found.thousands not in ("", self.thousands) else found

    def _is_far(self, value: Decimal) -> bool:
        """Return True for a number that is too small for the column's decimals, or very large."""
        return value.adjusted() < -self.decimals[1] or value.adjusted() >= LONG

    def _positional(self, value: Decimal) -> str:
        """Write a positive number without an exponent."""
        least, most = self.decimals
        exact = -int(value.as_tuple().exponent)  # the number is finite
        whole, _, decimals = f"{value:.{min(max(exact, least), most)}f}".partition(".")
        whole = whole.rjust(self.width, "0")
        if "grouped" in self.flags:
            whole = f"{Decimal(whole):,}".replace(",", self.thousands)
        if whole == "0" and decimals and "no whole" in self.flags:
            whole = ""
        return whole + self._mark(decimals) + decimals

    def _exponential(self, value: Decimal) -> str:
        """Write a positive number with an exponent, in the most frequent shape of its sign."""
        least, most = self.mantissa
        exact = len("".join(map(str, value.as_tuple().digits)).rstrip("0")) - 1
        mantissa, _, exponent = f"{value:.{min(max(exact, least), most)}e}".partition("e")
        power = int(exponent) if value else 0
        shape = next(one for one in self._shapes() if ("-" in one) == (power < 0))
        whole, _, decimals = mantissa.partition(".")
        digits = whole.rjust(self.width, "0") + self._mark(decimals) + decimals
        return digits + shape.rstrip("0") + str(abs(power)).rjust(shape.count("0"), "0")

    def _mark(self, decimals: str) -> str:
        return self.decimal if decimals or "none" not in self.marks else ""

    def _shapes(self) -> Iterator[str]:
        """Return the shapes of exponents; one for the other sign of the exponent follows from the first."""
        yield from self.exponents
        if len({"-" in shape for shape in self.exponents}) == 1:
            first = self.exponents[0]
            letter, zeros = first[0], "0" * first.count("0")
            yield letter + ("+" if "-" in first else "-") + zeros

    def _with_unit(self, sign: str, digits: str) -> str:
        signs = {"outer", "inner"} & {*self.flags}
        before = self.before[0] if not sign or signs or "" not in self.before else ""
        return (sign + before if "outer" in signs else before + sign) + digits + self.behind[0]

    def example(self) -> str:
        """Return a picture of the format for a report, such as `$9,999.00`."""
        if not self.decimals:
            return "9e-9" if self.exponents else ""
        least, most = self.decimals
        shown = "0" * least + "#" * min(most - least, 6)
        whole = f"9{self.thousands}999" if "grouped" in self.flags else "0" * self.width or "9"
        picture = self.before[0] + whole + (self.decimal + shown if shown else "") + self.behind[0]
        return picture + (" or 9e-9" if self.exponents else "")


class FormatSurvey:
    """Finds the format of a column from its numbers.

    Args:
        decimal: decimal mark.
    """

    def __init__(self, decimal: str) -> None:
        self.decimal = decimal
        self.thousands = ""
        self._spellings: dict[tuple[Any, ...], Spelled] = {}  # an example of each set of properties
        self._counts: Counter[tuple[Any, ...]] = Counter()

    def look(self, texts: Iterable[str]) -> None:
        """Choose the thousands mark that most of the first texts have."""
        marks = Counter(found.thousands for text in texts if (found := parse(text, self.decimal)) and found.thousands)
        self.thousands = marks.most_common(1)[0][0] if marks else ""

    def add(self, text: str) -> Spelled | None:
        """Take a number into account; return its parts, or None if it is no number of this column."""
        found = parse(text, self.decimal)
        if found is None or (found.thousands and self.thousands not in ("", found.thousands)):
            return None
        before, outer, sign, whole, thousands, decimals, exponent, behind = found
        zero = not (whole.strip("0") or (decimals and decimals.strip("0")))
        width = (len(whole), whole[:1] == "0", thousands)
        places = -1 if decimals is None else len(decimals)
        key = (before, outer, sign, width, places, zero, exponent and _shape(exponent), behind)
        if key not in self._spellings:
            if not self._has_room(found):
                return None
            self._spellings[key] = found
            self.thousands = self.thousands or thousands
        self._counts[key] += 1
        return found

    def _has_room(self, found: Spelled) -> bool:
        """Return False if a unit is one too many; numbers in two units of measurement are not comparable."""
        known = [found, *self._spellings.values()]
        before, behind = ({getattr(one, side) for one in known} for side in ("before", "behind"))
        units = {one.strip() for one in behind | before} - {""}
        comparable = len(units) == 1 or not units & MEASURES
        return comparable and len(before) <= UNITS and len(behind) <= UNITS

    @property
    def padded(self) -> bool:
        """True if zeros lead some of the numbers."""
        return any(one.padded for one in self._spellings.values())

    def consistent(self) -> bool:
        """Return False if zeros lead numbers of several widths, which are codes and no numbers."""
        known = self._spellings.values()
        return not self.padded or (
            len({len(one.whole) for one in known}) == 1 and not any(one.thousands for one in known)
        )

    def found(self) -> NumberFormat:
        """Return the format of the numbers seen."""
        known = self._spellings
        if not known:
            return NumberFormat(decimal=self.decimal)
        flags = {flag for one in known.values() for flag in _flags(one)}
        if "plus" in flags and all(one.sign or one.outer_sign or not one.value for one in known.values()):
            flags.add("always plus")
        return NumberFormat(
            self.thousands if "grouped" in flags else "",
            self.decimal,
            before=self._ranked(lambda one: one.before),
            behind=self._ranked(lambda one: one.behind),
            decimals=_ends({len(one.decimals or "") for one in known.values() if not one.exponent}),
            marks=sorted({_mark(one) for one in known.values()}),
            flags=sorted(flags),
            exponents=[shape for shape in self._ranked(lambda one: _shape(one.exponent)) if shape],
            mantissa=_ends({len(one.decimals or "") for one in known.values() if one.exponent}),
            width=max(len(one.whole) for one in known.values()) if self.padded else 0,
        )

    def _ranked(self, part: Callable[[Spelled], str]) -> list[str]:
        """Return the different values of a part, the most frequent one first."""
        counts: Counter[str] = Counter()
        for key, one in self._spellings.items():
            counts[part(one)] += self._counts[key]
        return [value for value, _ in counts.most_common()]


def exact(value: Decimal) -> int | float | str:
    """Return a value for JSON from which `Decimal(str(…))` gives it back: an integer, a float, or its digits."""
    if value == value.to_integral_value() and abs(value) < Decimal(10) ** 30:
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def decimal_of(stored: float | str) -> Decimal:
    """Read what `exact` returned.

    Raises:
        ValueError: it is no number.
    """
    try:
        return Decimal(str(stored))
    except InvalidOperation:
        raise ValueError(f"{stored!r} is no number") from None


def _mark(found: Spelled) -> str:
    return "none" if found.decimals is None else ("some" if found.decimals else "bare")


def _flags(found: Spelled) -> set[str]:
    sign = found.sign or found.outer_sign
    inner = found.sign and found.before and found.sign != "("
    flags = {"outer"} if found.outer_sign else ({"inner"} if inner else set())
    flags |= {"+": {"plus"}, "−": {"typographic minus"}, "(": {"parentheses"}}.get(sign, set())
    flags |= {"no whole"} if not found.whole else set()
    if len(found.whole) > 3:
        flags |= {"grouped" if found.thousands else "ungrouped"}
    return flags


def _shape(exponent: str) -> str:
    """Return the letter and sign of an exponent with a zero for each digit that it has at least.

    `e-05` and `e-12` are `e-00`, which also spells `e-123`; `e5` is `e0`, and `e-005` is `e-000`.
    """
    head = exponent.rstrip("0123456789")
    digits = exponent[len(head) :]
    return head + "0" * (len(digits) if digits[:1] == "0" else min(len(digits), 2))


def _has_shape(exponent: str, shape: str) -> bool:
    head = exponent.rstrip("0123456789")
    digits = exponent[len(head) :]
    least = shape.count("0")
    return head == shape.rstrip("0") and len(digits) == max(len(digits.lstrip("0")), least)


def _ends(numbers: set[int]) -> list[int]:
    return [min(numbers), max(numbers)] if numbers else []
