"""Code of a column of numbers: a fixed number of digits, each a token of its own place."""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.data.column_code import ALL, Allowed, ColumnCode, Permitted, SpecialValues
from pipeline.data.number_format import NumberFormat

DIGITS = 20  # digits of a number at most


class NumberCode(ColumnCode):
    """A sign where some numbers have one, then all digits, the most significant first.

    Numbers are counted in units of their last decimal: with two decimals, 1.25 is 125 units.

    Args:
        form: format of the numbers.
        low: smallest number, in units.
        high: largest number, in units.
        specials: spelled values that are no such numbers, or that the format writes differently.
        loose: True if a number that the format writes differently has the tokens of the number, and comes back as the
            format writes it.
    """

    kind = "digits"

    def __init__(
        self, form: NumberFormat, low: int, high: int, specials: Iterable[str] = (), loose: bool = False
    ) -> None:
        self.form, self.low, self.high, self.loose = form, low, high, loose
        self.decimals = max(form.decimals, default=0)
        self.width = len(str(max(abs(low), abs(high))))
        self.signs = 2 if low < 0 else 0
        self.specials = SpecialValues(specials)
        self._signs = len(self.specials)
        self._digits = self._signs + self.signs
        self.size = self._digits + 10 * self.width
        self.longest = self.width + (self.signs > 0)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "NumberCode":
        """Create the code from its format, range and special values."""
        form = NumberFormat.from_json(stored["format"])
        return cls(form, stored["low"], stored["high"], stored["specials"], stored.get("loose", False))

    def to_json(self) -> dict[str, Any]:
        """Describe the format, the range and the special values."""
        return {
            "kind": self.kind,
            "format": self.form.to_json(),
            "low": self.low,
            "high": self.high,
            "specials": self.specials.values,
            "loose": self.loose,
        }

    def units(self, spelled: str) -> int | None:
        """Return a number in units; None if it is no number within the range, or the format writes it differently."""
        try:
            number = self.form.read(spelled).scaleb(self.decimals)
        except (ValueError, ArithmeticError):
            return None
        if number != number.to_integral_value():
            return None
        units = int(number)
        within = self.low <= units <= self.high
        return units if within and (self.loose or self.spelled(units) == spelled) else None

    def spelled(self, units: int) -> str:
        """Write a number of units."""
        sign, digits, _ = Decimal(units).as_tuple()
        places = self.decimals
        while places and digits[-1] == 0:  # the format adds the zeros that it wants
            digits, places = digits[:-1] or (0,), places - 1
        return self.form.write(Decimal((sign, digits, -places)))

    def encode(self, spelled: str) -> list[int] | None:
        """Return the token of a special value, or the sign and the digits."""
        if (token := self.specials.tokens.get(spelled)) is not None:
            return [token]
        units = self.units(spelled)
        return None if units is None else self.tokens(units)

    def tokens(self, units: int) -> list[int]:
        """Return the sign and the digits of a number of units."""
        sign = [self._signs + (units < 0)] if self.signs else []
        digits = str(abs(units)).rjust(self.width, "0")
        return sign + [self._digits + 10 * place + int(digit) for place, digit in enumerate(digits)]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the special value, or the number."""
        if len(tokens) == 1 and tokens[0] < len(self.specials):
            return self.specials.values[tokens[0]]
        if len(tokens) != self.longest or any(token < self._signs for token in tokens):
            return None
        negative = self.signs > 0 and tokens[0] == self._signs + 1
        units = 0
        for place, token in enumerate(tokens[1:] if self.signs else tokens):
            digit = token - self._digits - 10 * place
            if not 0 <= digit <= 9:
                return None
            units = 10 * units + digit
        return self.spelled(-units if negative else units)

    def allowed(self, prefix: Sequence[int], permitted: Permitted | None = None) -> Allowed:
        """Return the special values, signs and digits that begin a permitted number."""
        permitted = permitted or ALL
        if not prefix:
            special = self.specials.permitted(permitted.specials)
            if self.signs:
                signs = tuple(self._signs + negative for negative in (0, 1) if self._any(negative, 0, 0, permitted))
                return special + signs
            return special + self._next(0, 0, 0, permitted)
        if prefix[0] < len(self.specials):
            return ()
        negative = prefix[0] - self._signs if self.signs else 0
        digits = prefix[1:] if self.signs else prefix
        units = 0
        for place, token in enumerate(digits):
            units = 10 * units + token - self._digits - 10 * place
        return self._next(negative, units, len(digits), permitted)

    def _next(self, negative: int, begun: int, known: int, permitted: Permitted) -> Allowed:
        if known == self.width:
            return ()
        first = self._digits + 10 * known
        return tuple(
            first + digit for digit in range(10) if self._any(negative, 10 * begun + digit, known + 1, permitted)
        )

    def _any(self, negative: int, begun: int, known: int, permitted: Permitted) -> bool:
        """Return True if a permitted number has this sign and begins with these digits."""
        step = 10 ** (self.width - known)
        low, high = begun * step, begun * step + step - 1
        if negative:
            low, high = -high, -max(low, 1)  # zero has no sign
        return self._within(low, high, permitted)

    def _within(self, low: int, high: int, permitted: Permitted, step: int = 1) -> bool:
        """Return True if a multiple of a step from low to high is permitted."""
        low = max(low, self.low, self.low if permitted.low is None else permitted.low)
        high = min(high, self.high, self.high if permitted.high is None else permitted.high)
        low, high = -(-low // step) * step, high // step * step
        if low > high:
            return False
        if permitted.only is not None:
            place = bisect.bisect_left(permitted.only, low)
            while place < len(permitted.only) and permitted.only[place] <= high:
                if permitted.only[place] not in permitted.excluded and permitted.only[place] % step == 0:
                    return True
                place += 1
            return False
        return (high - low) // step >= len(permitted.excluded) or any(
            units not in permitted.excluded for units in range(low, high + 1, step)
        )

    def name(self, token: int) -> str:
        """Return the special value, the sign, or the digit with its place."""
        if token < self._signs:
            return self.specials.values[token]
        if token < self._digits:
            return "+-"[token - self._signs]
        place, digit = divmod(token - self._digits, 10)
        return f"{digit}e{self.width - 1 - place - self.decimals}"
