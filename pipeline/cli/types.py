"""Types of command-line options: what they accept, and what they say of what they do not."""

import argparse
import ipaddress
import os
import re
import reprlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.errors import UserError

# No count beyond the first can be meant; numbers beyond the others are lost on the way through float32.
MOST = {int: 2**31 - 1, float: 1e30}
LEAST = 1e-30


@dataclass(frozen=True)
class Bounded:
    """An argparse type: a number within limits; `integer` and `number` make it.

    Args:
        kind: int or float.
        low: the least.
        high: the largest.
        above: it is larger than this.
        below: it is smaller than this.
    """

    kind: type[int] | type[float]
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def __call__(self, text: str) -> int | float:
        """Parse.

        Raises:
            ArgumentTypeError: it is no such number.
        """
        try:
            value = self.kind(text)
        except ValueError:
            name = "an integer" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {name}, got {_shown(text)}") from None
        limits = [
            (self.low, "at least", lambda limit: value >= limit),
            (self.high, "at most", lambda limit: value <= limit),
            (self.above, "above", lambda limit: value > limit),
            (self.below, "below", lambda limit: value < limit),
        ]
        limits = [(limit, word, holds) for limit, word, holds in limits if limit is not None]
        wanted = " and ".join(f"{word} {limit}" for limit, word, _ in limits) or "finite"
        if value - value != 0 or not all(holds(limit) for limit, _, holds in limits):  # inf - inf is no number
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {_shown(text)[1:-1]}")
        most = self.high or MOST[self.kind]
        if abs(value) > most:
            raise argparse.ArgumentTypeError(f"must be at most {most} in size, got {_shown(text)[1:-1]}")
        if 0 < abs(value) < LEAST:
            raise argparse.ArgumentTypeError(f"must be at least {LEAST} in size, got {_shown(text)[1:-1]}")
        return value


def integer(low: int | None = None, high: int | None = None) -> Bounded:
    """An argparse type: an integer in [low, high]."""
    return Bounded(int, low, high)


def number(
    low: float | None = None, high: float | None = None, *, above: float | None = None, below: float | None = None
) -> Bounded:
    """An argparse type: a finite number in [low, high], or strictly above `above` and below `below`."""
    return Bounded(float, low, high, above, below)


def limit(text: str) -> int:
    """An argparse type: a count of at least 1, or -1 for no limit."""
    value = integer(-1)(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1, or -1 for no limit, got 0")
    return value


def boolean(text: str) -> bool:
    """An argparse type: `True` or `False`, typed out."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise argparse.ArgumentTypeError(f"must be True or False, got {_shown(text)}")


@dataclass(frozen=True)
class OrNone:
    """An argparse type: another type, where `None` typed out (or nothing) means that it was not given."""

    kind: Callable[[str], object]

    def __call__(self, text: str) -> object | None:
        """Parse as the other type does."""
        return None if text in ("None", "") else self.kind(text)


@dataclass(frozen=True)
class BooleanOr:
    """An argparse type: `True` or `False`, typed out, or a number of another type."""

    kind: Bounded

    def __call__(self, text: str) -> bool | int | float:
        """Parse.

        Raises:
            ArgumentTypeError: it is neither.
        """
        if text.lower() in ("true", "false"):
            return boolean(text)
        try:
            return self.kind(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}; True and False are taken too") from None


@dataclass(frozen=True)
class Checked:
    """An argparse type: text that a check lets pass, which raises a `UserError` otherwise."""

    check: Callable[[str], object]

    def __call__(self, text: str) -> str:
        """Check.

        Raises:
            ArgumentTypeError: what the check says.
        """
        try:
            self.check(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text


class Distinct(argparse.Action):
    """Stores the values of a flag that takes several, of which no two may be equal."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store.

        Raises:
            ArgumentError: a value stands there twice.
        """
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            raise argparse.ArgumentError(self, f"{twice[0]} stands there twice; name each once")
        setattr(namespace, self.dest, values)


def folder(text: str) -> Path:
    """An argparse type: a folder that is there, or one that can be made."""
    try:
        reason = None if text and stat.S_ISDIR(os.stat(text).st_mode) else "that is none"
    except FileNotFoundError:
        reason = None
    except (OSError, ValueError) as error:  # a file on the way to it, a name too long or with a NUL, no permission
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise argparse.ArgumentTypeError(f"must be a folder, got {_shown(text)} ({reason})")
    return Path(text)


def file(text: str) -> Path:
    """An argparse type: a file that is there."""
    if not os.path.exists(text) or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"must be a file that is there, got {_shown(text)}")
    return Path(text)


def address(text: str) -> str:
    """An argparse type: an IP address of this machine, or localhost."""
    try:
        return text if text == "localhost" else str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an IP address or localhost, got {_shown(text)}") from None


def database(text: str) -> str:
    """An argparse type: the URL of a database."""
    if re.fullmatch(r"[a-z][a-z0-9+]*://\S*", text):
        return text
    raise argparse.ArgumentTypeError(f"must be the URL of a database, such as sqlite:///study.db, got {_shown(text)}")


def wandb_project(text: str) -> str:
    """An argparse type: a project on Weights & Biases with whose it is."""
    if re.fullmatch(r"[A-Za-z0-9_\-]+/\w[^/\\#?%:]*", text) and text.isprintable():
        return text
    raise argparse.ArgumentTypeError(f"must be ENTITY/PROJECT, got {_shown(text)}")


def name(text: str) -> str:
    """An argparse type: the name of an experiment, a project or a dataset; one folder, nothing else."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}", text):
        return text
    raise argparse.ArgumentTypeError(
        f"must be 1 to 100 letters, digits, '_', '-' or '.', and begin with no '-' or '.', got {_shown(text)}"
    )


def sentence(text: str) -> str:
    """An argparse type: a sentence, with one space wherever there was white space."""
    words = " ".join(text.split())
    if not words or "\0" in words:
        raise argparse.ArgumentTypeError(f"must be a sentence, got {_shown(text)}")
    return words


def _shown(text: str) -> str:
    """What was typed, quoted, and cut short where it is long."""
    show = reprlib.Repr()
    show.maxstring = 80
    return show.repr(text)
