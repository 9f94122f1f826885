"""Code of a column of numbers of all sizes: a power of ten, then the significant digits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal
from typing import Any

from pipeline.data.column_code import ALL, Allowed, Permitted
from pipeline.data.number_code import NumberCode
from pipeline.data.number_format import NumberFormat

MOST = 40  # significant digits of a number at most
POWERS = 700  # powers of ten of a column at most, which all numbers of double precision keep within
WIDE = Context(prec=2 * POWERS)


class FloatingCode(NumberCode):
    """A sign where some numbers have one, the power of ten of the first digit, then the significant digits.

    Zero has no first digit, so it is a special value. Numbers are counted in units of the last digit of the smallest.

    Args:
        form: format of the numbers.
        ends: smallest and largest number.
        powers: smallest and largest power of ten.
        digits: number of significant digits.
        specials: spelled values that are no such numbers, or that the format writes differently.
        loose: see `NumberCode`.
    """

    kind = "floating"

    def __init__(
        self,
        form: NumberFormat,
        ends: Sequence[str],
        powers: Sequence[int],
        digits: int,
        specials: Iterable[str] = (),
        loose: bool = False,
    ) -> None:
        self.ends, self.powers = list(ends), list(powers)
        decimals = digits - 1 - self.powers[0]
        low, high = (Decimal(end).scaleb(decimals, WIDE) for end in ends)
        super().__init__(form, math.ceil(low), math.floor(high), specials, loose)
        self.decimals, self.width = decimals, digits
        self._digits = self._signs + self.signs + self.powers[1] - self.powers[0] + 1
        self.size = self._digits + 10 * digits
        self.longest = digits + 1 + (self.signs > 0)
        self._permitted_powers: dict[tuple[bool, Permitted], Allowed] = {}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "FloatingCode":
        """Create the code from its format, ranges and special values."""
        form = NumberFormat.from_json(stored["format"])
        return cls(form, stored["ends"], stored["powers"], stored["digits"], stored["specials"], stored["loose"])

    def to_json(self) -> dict[str, Any]:
        """Describe the format, the ranges and the special values."""
        return {
            "kind": self.kind,
            "format": self.form.to_json(),
            "ends": self.ends,
            "powers": self.powers,
            "digits": self.width,
            "specials": self.specials.values,
            "loose": self.loose,
        }

    def extent(self, spelled: str) -> tuple[int, int] | None:
        """Return the power of ten and the number of significant digits of a number; None if the code has none such."""
        units = self.units(spelled)
        if units is None:
            return None
        digits = str(abs(units))
        return len(digits) - 1 - self.decimals, len(digits.rstrip("0"))

    def narrowed(self, extents: Iterable[tuple[int, int]], specials: Iterable[str]) -> "FloatingCode":
        """Return a code of the powers and digits that numbers have, and of special values."""
        found = list(extents) or [(self.powers[1], 1)]
        powers = [power for power, _ in found]
        digits = max(digits for _, digits in found)
        return FloatingCode(self.form, self.ends, [min(powers), max(powers)], digits, specials, self.loose)

    def units(self, spelled: str) -> int | None:
        """Return a number in units; None if it is zero or not within the range, or is written differently."""
        try:
            number = self.form.read(spelled)
        except (ValueError, ArithmeticError):
            return None
        power = number.adjusted()
        if not number or not self.powers[0] <= power <= self.powers[1]:
            return None
        number = number.scaleb(self.decimals, WIDE)
        if number != number.to_integral_value(context=WIDE):
            return None
        units = int(number)
        within = self.low <= units <= self.high and units % self._step(power) == 0
        return units if within and (self.loose or self.spelled(units) == spelled) else None

    def spelled(self, units: int) -> str:
        """Write a number of units."""
        digits = str(abs(units))
        kept = digits.rstrip("0") or "0"
        power = len(digits) - len(kept) - self.decimals
        if power > 0 and self.form.decimals:
            kept, power = kept + "0" * power, 0
        number = Decimal((int(units < 0), tuple(map(int, kept)), power))
        written = self.form.write(number)
        if self.form.exponents and self.form.read(written) != number:  # more digits than there are decimals
            return replace(self.form, decimals=[]).write(number)
        return written

    def tokens(self, units: int) -> list[int]:
        """Return the sign, the power of ten and the digits of a number of units."""
        digits = str(abs(units))
        sign = [self._signs + (units < 0)] if self.signs else []
        power = self._signs + self.signs + len(digits) - self.width
        kept = digits[: self.width]
        return [*sign, power, *(self._digits + 10 * place + int(digit) for place, digit in enumerate(kept))]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the special value, or the number."""
        if len(tokens) == 1 and tokens[0] < len(self.specials):
            return self.specials.values[tokens[0]]
        if len(tokens) != self.longest or tokens[0] < self._signs:
            return None
        negative, power, digits = self._read(tokens)
        if power is None or any(not 0 <= digit <= 9 for digit in digits) or not digits[0]:
            return None
        units = int("".join(map(str, digits))) * 10 ** (power - self.powers[0])
        return self.spelled(-units if negative else units)

    def _read(self, tokens: Sequence[int]) -> tuple[bool, int | None, list[int]]:
        """Return the sign, the power of ten and the digits as far as they are known."""
        negative = self.signs > 0 and tokens[0] == self._signs + 1
        power, *digits = tokens[1:] if self.signs else tokens
        number = power - self._signs - self.signs + self.powers[0]
        within = self.powers[0] <= number <= self.powers[1]
        known = [token - self._digits - 10 * place for place, token in enumerate(digits)]
        return negative, number if within else None, known

    def allowed(self, prefix: Sequence[int], permitted: Permitted | None = None) -> Allowed:
        """Return the special values, signs, powers and digits that begin a permitted number."""
        permitted = permitted or ALL
        if not prefix:
            special = self.specials.permitted(permitted.specials)
            if not self.signs:
                return special + self._powers(False, permitted)
            signs = (self._signs + negative for negative in (0, 1) if self._powers(bool(negative), permitted))
            return special + tuple(signs)
        if prefix[0] < len(self.specials) or len(prefix) == self.longest:
            return ()
        if self.signs and len(prefix) == 1:
            return self._powers(prefix[0] == self._signs + 1, permitted)
        negative, power, digits = self._read(prefix)
        assert power is not None, "a power of the column"
        begun = int("".join(map(str, digits)) or "0")
        first = self._digits + 10 * len(digits)
        return tuple(
            first + digit
            for digit in range(10)
            if self._begins(negative, power, 10 * begun + digit, len(digits) + 1, permitted)
        )

    def _powers(self, negative: bool, permitted: Permitted) -> Allowed:
        low, high = self.powers
        if (known := self._permitted_powers.get((negative, permitted))) is None:
            known = self._permitted_powers[negative, permitted] = tuple(
                self._signs + self.signs + power - low
                for power in range(low, high + 1)
                if self._begins(negative, power, 0, 0, permitted)
            )
        return known

    def _begins(self, negative: bool, power: int, begun: int, known: int, permitted: Permitted) -> bool:
        """Return True if a permitted number has this sign and power and begins with these digits."""
        unit, step = 10 ** (power - self.powers[0]), self._step(power)
        rest = 10 ** (self.width - known)
        low = max(begun * rest, rest // 10 if known == 0 else 10 ** (self.width - 1)) * unit
        high = (begun * rest + rest - 1) * unit
        if low > high:
            return False
        return self._within(-high, -low, permitted, step) if negative else self._within(low, high, permitted, step)

    def _step(self, power: int) -> int:
        """Return the difference in units of numbers with this power: the format may write fewer digits."""
        with_exponent = self.form.mantissa[1] + 1 if self.form.exponents else 0
        without = power + self.form.decimals[1] + 1 if self.form.decimals else 0
        digits = min(self.width, max(with_exponent, without))
        return 10 ** (power - self.powers[0] + self.width - digits)

    def name(self, token: int) -> str:
        """Return the special value, the sign, the power of ten, or the digit with its place."""
        if token < self._signs:
            return self.specials.values[token]
        if token < self._signs + self.signs:
            return "+-"[token - self._signs]
        if token < self._digits:
            return f"10^{token - self._signs - self.signs + self.powers[0]}"
        place, digit = divmod(token - self._digits, 10)
        return f"{digit} at {place + 1}"


def floating_code(form: NumberFormat, low: Decimal, high: Decimal) -> FloatingCode | None:
    """Return a code of all numbers from low to high that the format can write, which `narrowed` fits to the values.

    Returns:
        The code; None if the numbers have more powers of ten than `POWERS`.
    """
    largest = max(low.adjusted() if low else 0, high.adjusted() if high else 0)
    smallest = largest - POWERS + 1 if form.exponents else -form.decimals[1]
    if largest - smallest >= POWERS:
        return None
    return FloatingCode(form, [str(low), str(high)], [smallest, largest], MOST)
