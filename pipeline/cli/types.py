"""Types of command-line flags: the values that each accepts, and the error for any other value."""

import argparse
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import readings
from models.declaration import Bounds, repeated, shortened, text_problem
from pipeline.data.column_types import KINDS
from pipeline.data.delimiters import WORDS, is_delimiter
from pipeline.runtime.errors import UserError


@dataclass(frozen=True)
class Bounded:
    """An argparse type: a number within bounds. `integer`, `number` and `limit` are the usual ones."""

    bounds: Bounds

    def __call__(self, text: str) -> Any:
        """Parse the number, an int or a float.

        Raises:
            ArgumentTypeError: if the text is not a number, or the number is out of bounds.
        """
        try:
            value = self.bounds.kind(text)
        except ValueError:
            name = "an integer" if self.bounds.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {name}, got {shortened(text)}") from None
        problem = self.bounds.problem(value)
        if problem is not None:
            raise argparse.ArgumentTypeError(f"{problem}, got {shortened(text)[1:-1]}")
        return value


def integer(low: int | None = None, high: int | None = None) -> Bounded:
    """An argparse type: an integer in [low, high]."""
    return Bounded(Bounds(int, low, high))


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, below: float | None = None
) -> Bounded:
    """An argparse type: a finite number in [low, high], or strictly above `above` and below `below`."""
    return Bounded(Bounds(float, low, high, above, below))


def column_type(text: str) -> tuple[str, str]:
    """An argparse type: a column and its type, as `column=type`."""
    name, equals, kind = text.rpartition("=")
    if not equals or kind not in KINDS:
        raise argparse.ArgumentTypeError(
            f"must be column=type with a type of {', '.join(KINDS)}, got {shortened(text)}"
        )
    return name, kind


limit = Bounded(Bounds(int, low=1, no_limit=True))  # an argparse type: a count of at least 1, or -1 for no limit


def boolean(text: str) -> bool:
    """An argparse type: the word `True` or `False`."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"must be True or False, got {shortened(text)}")


@dataclass(frozen=True)
class OrNone:
    """An argparse type: another type, or the word `None` (or an empty text) for no value."""

    kind: Callable[[str], object]

    def __call__(self, text: str) -> object | None:
        """Parse the text with the other type.

        Raises:
            ArgumentTypeError: if the other type refuses the text.
        """
        return None if text in ("None", "") else self.kind(text)


@dataclass(frozen=True)
class BooleanOr:
    """An argparse type: the word `True` or `False`, or a number of another type."""

    kind: Bounded

    def __call__(self, text: str) -> bool | int | float:
        """Parse the text.

        Raises:
            ArgumentTypeError: if it is neither a boolean nor a number within bounds.
        """
        if text.lower() in ("true", "false"):
            return boolean(text)
        try:
            return self.kind(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}; True and False are taken too") from None


@dataclass(frozen=True)
class Checked:
    """An argparse type: a text that `check` accepts; it raises a `UserError` for any other text."""

    check: Callable[[str], object]

    def __call__(self, text: str) -> str:
        """Check the text and return it unchanged.

        Raises:
            ArgumentTypeError: if `check` refuses the text, with its message.
        """
        try:
            self.check(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text


class Optional(argparse.Action):
    """Store the value of a flag that takes `None`, and record where it was typed, which no default replaces."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the value, or the values.

        Raises:
            ArgumentError: if None is one of several values.
        """
        if isinstance(values, list) and None in values:
            if len(values) > 1:
                raise argparse.ArgumentError(self, "None is no value beside others; give it alone")
            values = None
        setattr(namespace, self.dest, values)
        without = {name for name in typed_none(namespace) if name != self.dest}
        namespace.typed_none = without | ({self.dest} if values is None else set())


def typed_none(arguments: argparse.Namespace) -> set[str]:
    """Return the names of the flags whose value was typed out as `None`."""
    return set(getattr(arguments, "typed_none", ()))


class Distinct(argparse.Action):
    """Store the values of a flag that takes several values, all of them different."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the values.

        Raises:
            ArgumentError: if a value occurs twice.
        """
        if twice := repeated(values or ()):
            raise argparse.ArgumentError(self, f"{twice[0]} is given twice; give each value once")
        setattr(namespace, self.dest, values)


def reading(text: str) -> str:
    """An argparse type: the name of a reading, such as `plug-in` or `draws-8`; see `models.readings`."""
    found = readings.canonical(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be {readings.KNOWN}, got {shortened(text)}")
    return found


class Reading(argparse.Action):
    """Store the reading of a flag that takes one or two words: `plug-in`, `draws-8` or `draws 8`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the canonical name of the reading.

        Raises:
            ArgumentError: if there is no such reading.
        """
        try:
            found = reading(" ".join(values or ()))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, found)


def folder(text: str) -> Path:
    """An argparse type: an existing folder, or a path at which one can be made."""
    try:
        reason = None if text and stat.S_ISDIR(os.stat(text).st_mode) else "not a folder"
    except FileNotFoundError:
        reason = None
    except (OSError, ValueError) as error:  # a file among the parents, a name too long or with a NUL, no permission
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise argparse.ArgumentTypeError(f"must be a folder, got {shortened(text)} ({reason})")
    return Path(text)


def file(text: str) -> Path:
    """An argparse type: an existing file."""
    if not os.path.exists(text) or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"must be an existing file, got {shortened(text)}")
    return Path(text)


def address(text: str) -> str:
    """An argparse type: an IP address, or localhost."""
    try:
        return text if text == "localhost" else str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an IP address or localhost, got {shortened(text)}") from None


def database(text: str) -> str:
    """An argparse type: the URL of a database."""
    if re.fullmatch(r"[a-z][a-z0-9+]*://\S*", text):
        return text
    raise argparse.ArgumentTypeError(
        f"must be the URL of a database, such as sqlite:///study.db, got {shortened(text)}"
    )


def wandb_project(text: str) -> str:
    """An argparse type: a project on Weights & Biases, as ENTITY/PROJECT."""
    if re.fullmatch(r"[A-Za-z0-9_\-]+/\w[^/\\#?%:]*", text) and text.isprintable():
        return text
    raise argparse.ArgumentTypeError(f"must be ENTITY/PROJECT, got {shortened(text)}")


def name(text: str) -> str:
    """An argparse type: the name of an experiment, a project or a dataset, which is also the name of its folder."""
    _require(text, "name")
    return text


def base(text: str) -> str:
    """An argparse type: a pretrained model, by the word bundled, its folder or its name on the hub."""
    if (problem := text_problem(text, "base")) is not None:
        raise argparse.ArgumentTypeError(f"{problem}, got {shortened(text)}")
    return text


def judge(text: str) -> str:
    """An argparse type: the name of an experiment, the folder of a pretrained model, or its name on the hub."""
    if text_problem(text, "name") is None or text_problem(text, "base") is None:
        return text
    raise argparse.ArgumentTypeError(
        "must be the name of an experiment, the folder of a pretrained model, or its name on the hub, got "
        f"{shortened(text)}"
    )


def delimiter(text: str) -> str:
    """An argparse type: the character between two columns, or one of the words comma, semicolon, tab and pipe."""
    mark = {word: mark for mark, word in WORDS.items()}.get(text.lower(), text)
    if is_delimiter(mark):
        return mark
    raise argparse.ArgumentTypeError(
        f"must be one character that is no letter, digit or quotation mark, or one of the words "
        f"{', '.join(WORDS.values())}, got {shortened(text)}"
    )


def sentence(text: str) -> str:
    """An argparse type: a sentence, with its white space."""
    _require(text, "sentence")
    return text


def label(text: str) -> str:
    """An argparse type: a label, which may be empty."""
    _require(text, "label")
    return text


def _require(text: str, form: str) -> None:
    problem = text_problem(text, form)
    if problem is not None:
        raise argparse.ArgumentTypeError(f"{problem}, got {shortened(text)}")
