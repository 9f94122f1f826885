"""Columns of dates, times and date-times."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.data.column_type import ColumnType, Counts
from pipeline.data.date_format import form_of, forms


class _Range:
    """Earliest and latest date of a form, and its spellings."""

    def __init__(self, low: str, high: str, spellings: Iterable[str]) -> None:
        self.low, self.high, self.spellings = low, high, set(spellings)

    def add(self, key: str, spellings: Iterable[str]) -> None:
        """Take a date into account."""
        self.low, self.high = min(self.low, key), max(self.high, key)
        self.spellings.update(spellings)


class DateColumn(ColumnType):
    """Dates, times or date-times of one form, within the range of those seen."""

    kinds = ("date", "time", "date-time")
    tolerant = True

    def __init__(self) -> None:
        self._forms: dict[str, _Range | None] = {}  # pictures of the forms that all dates so far have

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "DateColumn":
        """Create the type from its form, spellings and range."""
        made = cls()
        made.form = description["form"]
        made._forms = {made.form: _Range(description["low"], description["high"], description["spellings"])}
        return made

    def look(self, values: Sequence[Any]) -> None:
        """Choose the forms that most of the first strings have; of several, later dates decide."""
        votes = Counter(form for value in values if isinstance(value, str) for form in self._possible(value))
        self._forms = {form: None for form, count in votes.items() if count == max(votes.values())}

    def add(self, value: Any) -> bool:
        """Accept strings of a form that the strings so far have, too."""
        if not isinstance(value, str):
            return False
        pictures = self._forms or self._possible(value)
        found = {picture: read for picture in pictures if (read := form_of(picture).read(value)) is not None}
        if not found:
            return False
        if len(found) < len(self._forms) or not self._forms:
            self._forms = {picture: self._forms.get(picture) for picture in found}
        for picture, (key, spellings) in found.items():
            if (known := self._forms[picture]) is None:
                self._forms[picture] = _Range(key, key, spellings)
            else:
                known.add(key, spellings)
        return True

    def _possible(self, value: str) -> list[str]:
        return [picture for picture in forms(value) if self.wanted in (None, form_of(picture).kind)]

    def fits(self, counts: Counts) -> bool:
        """Return True after at least one date."""
        seen = [picture for picture, known in self._forms.items() if known is not None]
        self.form = seen[0] if seen else ""
        return bool(seen)

    @property
    def _range(self) -> _Range:
        found = self._forms[self.form]
        assert found is not None, "no date was seen"
        return found

    def to_json(self) -> dict[str, Any]:
        """Describe the form, the range, and other forms that all dates have."""
        known = self._range
        column = {"kind": form_of(self.form).kind, "form": self.form, "low": known.low, "high": known.high}
        others = [picture for picture in self._forms if picture != self.form]
        return column | {"spellings": sorted(known.spellings)} | ({"or": others} if others else {})

    def value(self, text: str) -> str:
        """Return a date of the form within the range."""
        form, known = form_of(self.form), self._range
        found = form.read(text)
        if found is None:
            raise ValueError(f"is no {form.kind} of the form {self.form}")
        key, spellings = found
        # Where no number below ten occurs, nothing speaks against the usual zero.
        allowed = known.spellings if "single" in known.spellings else {*known.spellings, "padded"}
        if not allowed.issuperset(spellings):
            raise ValueError(f"is no {form.kind} of the form {self.form}")
        if not known.low <= key <= known.high:
            raise ValueError(f"lies outside {self.extent()}")
        return text

    def loose(self, text: str) -> str:
        """Return a date with the white space of its form."""
        spaced = form_of(self.form).spaced(text)
        return self.value(text if spaced is None else spaced)

    def extent(self) -> str:
        """Return `earliest to latest`."""
        return f"{self._range.low} to {self._range.high}"
