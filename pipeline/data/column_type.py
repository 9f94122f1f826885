"""The interface of a column's type, which spells each value as a string and reads it back with its type."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass
class Counts:
    """Counts of a column's values.

    Args:
        values: values that are not missing.
        distinct: different ones among them.
    """

    values: int = 0
    distinct: int = 0


class ColumnType(ABC):
    """A type that a column may have.

    A survey of a column gives each different value to `add` of every candidate. The first candidate that fits is the
    column's type. A new type is a subclass in a module of its own, and its entry in
    `pipeline.data.column_types.CANDIDATES`.

    Attributes:
        kinds: names of the type in `statistics.json` and for `--COLUMN_TYPES`.
        tolerant: True if a column of this type may hold a few other strings.
        form: description of the form for a report, or empty.
        wanted: kind that the user names, of which all values must be; None if the survey is to find it.
    """

    kinds: ClassVar[tuple[str, ...]]
    tolerant: ClassVar[bool] = False
    form: str = ""
    wanted: str | None = None

    @classmethod
    @abstractmethod
    def from_json(cls, description: Mapping[str, Any]) -> "ColumnType":
        """Create the type from its description in `statistics.json`."""

    def look(self, values: Sequence[Any]) -> None:  # noqa: B027
        """Look at the first values before they are added, to choose among several forms."""

    @abstractmethod
    def add(self, value: Any) -> bool:
        """Take a value into account that is not missing; return False if it cannot be of this type."""

    @abstractmethod
    def fits(self, counts: Counts) -> bool:
        """Return True if the values so far make a column of this type; `add` refused none of them."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Describe the type for `statistics.json`."""

    @abstractmethod
    def value(self, text: str) -> Any:
        """Convert a string that is not empty to a value of the column.

        Raises:
            ValueError: the string is no value of the column; the message completes "the value …".
        """

    def loose(self, text: str) -> Any:
        """Convert a string whose white space is lost, as a tokenizer of words leaves it; see `value`."""
        return text

    def spelling(self, value: Any) -> str:
        """Spell a value of the column as a string."""
        return str(value)

    def arrow(self) -> str:
        """Return the alias of the Arrow type of the values in a Parquet file."""
        return "string"

    def extent(self) -> str:
        """Return the range of the values for a report, or an empty string."""
        return ""
