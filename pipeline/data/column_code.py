"""The interface of a column's code, which turns each value of a row into a few tokens, and codes of single tokens."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Allowed = tuple[int, ...]  # tokens of a code that may come next; empty after the last token of a value


@dataclass(frozen=True)
class Permitted:
    """Values of a column that a condition permits, for a code that orders its values.

    Args:
        low: smallest value, in the code's own units; None for no bound.
        high: largest value; None for no bound.
        only: the values that are permitted; None for all between the bounds.
        excluded: values that are not permitted.
        specials: spelled values without a place in the order, such as the empty string of a missing value, that are
            permitted; None for all.
    """

    low: Any = None
    high: Any = None
    only: tuple[Any, ...] | None = None
    excluded: frozenset[Any] = field(default_factory=frozenset)
    specials: frozenset[str] | None = None


ALL = Permitted()


class ColumnCode(ABC):
    """Code of a column: each value is a sequence of tokens, numbered from 0 within the column.

    A new code is a subclass in a module of its own, and its entry in `pipeline.data.row_codes.CODES`.

    Attributes:
        kind: name of the code in a file.
        size: number of tokens.
        longest: largest number of tokens of a value.
    """

    kind: ClassVar[str]
    size: int
    longest: int

    @classmethod
    @abstractmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ColumnCode":
        """Create the code from its description."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Describe the code for a file."""

    @abstractmethod
    def encode(self, spelled: str) -> list[int] | None:
        """Return the tokens of a spelled value; None if the column has no such value."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the spelled value of tokens; None if they are no value."""

    @abstractmethod
    def allowed(self, prefix: Sequence[int], permitted: Any = None) -> Allowed:
        """Return the tokens that may follow the first tokens of a value.

        Args:
            prefix: the first tokens of a value.
            permitted: condition on the value, as `permit` returns it; None for none.

        Returns:
            Tokens each of which begins a permitted value; empty if the prefix is a whole value.
        """

    @abstractmethod
    def name(self, token: int) -> str:
        """Return the name of a token for a reader."""


class ValueCode(ColumnCode):
    """One token for each value of a column.

    Args:
        values: the spelled values, in the order of their tokens.
    """

    kind = "values"
    longest = 1

    def __init__(self, values: Iterable[str]) -> None:
        self.values = list(values)
        self.size = len(self.values)
        self._tokens = {value: token for token, value in enumerate(self.values)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ValueCode":
        """Create the code from its values."""
        return cls(stored["values"])

    def to_json(self) -> dict[str, Any]:
        """Describe the values."""
        return {"kind": self.kind, "values": self.values}

    def encode(self, spelled: str) -> list[int] | None:
        """Return the token of the value."""
        token = self._tokens.get(spelled)
        return None if token is None else [token]

    def decode(self, tokens: Sequence[int]) -> str | None:
        """Return the value of the token."""
        return self.values[tokens[0]] if len(tokens) == 1 and tokens[0] < self.size else None

    def allowed(self, prefix: Sequence[int], permitted: tuple[int, ...] | None = None) -> Allowed:
        """Return the permitted tokens before a value, none after it."""
        if prefix:
            return ()
        return tuple(range(self.size)) if permitted is None else permitted

    def name(self, token: int) -> str:
        """Return the value."""
        return self.values[token]


class SpecialValues:
    """Values that a code has a token of its own for, each a whole value; the code's first tokens.

    Args:
        values: the spelled values.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self.values = list(values)
        self.tokens = {value: token for token, value in enumerate(self.values)}

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self.values)

    def permitted(self, names: frozenset[str] | None) -> Allowed:
        """Return the tokens of the permitted values; None permits all."""
        return tuple(token for token, value in enumerate(self.values) if names is None or value in names)
