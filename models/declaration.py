"""Settings, each declared once: a dataclass field whose metadata holds its help, its range and its tuning range.

    dropout: float = field(default=0.1, metadata=declare("dropout probability, in [0, 1)", low=0, below=1))

`declared` reads the fields of a dataclass, and `check_settings` checks their values. The flags of the scripts, their
help texts and the search space of `tune.py` come from the same metadata. This module imports nothing heavy, because a
command line is parsed with it.
"""

import dataclasses
import functools
import numbers
import operator
import os
import re
import reprlib
import string
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from models import readings

# No larger count is meaningful, and float32 cannot represent a number outside [SMALLEST, LARGEST[float]] well.
LARGEST: dict[type, float] = {int: 2**31 - 1, float: 1e30}
SMALLEST = 1e-30
# A pretrained model's name on the hub, or "bundled"; a folder is checked where it is.
BASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95})?")


class SettingError(ValueError):
    """Error for a setting that is out of its range or contradicts another setting.

    Args:
        text: message in which `{name}` stands for the setting `name`, or for one of the values.
        values: values that the message shows.
    """

    def __init__(self, text: str, **values: object) -> None:
        self.text = text
        self.values = values
        super().__init__(self.named(lambda name: name))

    def named(self, naming: Callable[[str], str]) -> str:
        """Message in which `naming` names the settings, for example as flags."""
        names = {name for _, name, _, _ in string.Formatter().parse(self.text) if name} - self.values.keys()
        return self.text.format(**{name: naming(name) for name in names}, **self.values)


@dataclass(frozen=True)
class Bounds:
    """Range of a number.

    Args:
        kind: int or float.
        low: smallest value.
        high: largest value.
        above: the value must be greater.
        below: the value must be less.
        no_limit: True if -1 is also allowed and means no limit.
    """

    kind: type[int] | type[float]
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    no_limit: bool = False

    def problem(self, value: float) -> str | None:
        """Rule that a number breaks ("must be at least 1"), or None."""
        if self.no_limit and value == -1:
            return None
        limits = (
            (self.low, "at least", operator.ge),
            (self.high, "at most", operator.le),
            (self.above, "above", operator.gt),
            (self.below, "below", operator.lt),
        )
        given = [(f"{word} {limit}", holds(value, limit)) for limit, word, holds in limits if limit is not None]
        finite = value - value == 0  # inf - inf is not a number, and neither is nan - nan
        if not finite or not all(holds for _, holds in given):
            wanted = " and ".join(text for text, _ in given) or "finite"
            return f"must be {wanted}{', or -1 for no limit' if self.no_limit else ''}"
        largest = self.high or LARGEST[self.kind]
        if abs(value) > largest:
            return f"must be at most {largest} in size"
        if 0 < abs(value) < SMALLEST:
            return f"must be at least {SMALLEST} in size"
        return None


@dataclass(frozen=True)
class Range:
    """Tuning range: numbers from `low` to `high`, uniform or, with `log`, uniform in their logarithm.

    Two integers are a range of integers, both ends included.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """Tuning range: one of several values."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """Declaration of one setting, read from a dataclass field by `declared`.

    Args:
        name: name of the field.
        kind: type of one value: int, float, bool or str.
        several: True for a sequence of values, which becomes a tuple.
        optional: True if None is allowed.
        default: default value, `dataclasses.MISSING` if there is none.
        help: meaning, with the unit of a number.
        bounds: range of a number.
        choices: allowed texts, empty if other rules apply.
        form: form of a text: "name", "sentence", "label", "reading" or "base".
        distinct: True if no two of several values may be equal.
        group: heading of the flag in `--help`, if the settings of one dataclass have several.
        flag: False if no flag sets it.
        tune: range that `tune.py` searches, or None.
    """

    name: str
    kind: type
    several: bool
    optional: bool
    default: Any
    help: str
    bounds: Bounds | None
    choices: tuple[str, ...] = ()
    form: str | None = None
    distinct: bool = False
    group: str = ""
    flag: bool = True
    tune: Range | Choice | None = None

    def checked(self, value: object) -> Any:
        """Check a value and return it in the setting's type: integers as int, sentences with single spaces.

        Raises:
            SettingError: if the value is out of range.
        """
        if value is None and self.optional:
            return None
        if not self.several:
            return self._checked_item(value)
        items = list(value) if _is_list(value) else []
        if not items:
            raise self._error("must be a list of one or more", value)
        items = [self._checked_item(item) for item in items]
        if self.distinct and (twice := repeated(items)):
            raise SettingError(f"{{{self.name}}} contains {{twice}} twice; give each value once", twice=repr(twice[0]))
        return tuple(items)

    def _checked_item(self, value: object) -> Any:
        if self.choices:
            if value not in self.choices:
                raise self._error(f"must be one of {', '.join(self.choices)}", value)
            return value
        if self.kind is bool:
            if not isinstance(value, bool):
                raise self._error("must be True or False", value)
            return value
        if self.bounds is not None:
            return self._checked_number(value, self.bounds)
        problem = text_problem(value, self.form)
        if problem is not None:
            raise self._error(problem, value)
        return readings.canonical(value) if self.form == "reading" else value

    def _checked_number(self, value: object, bounds: Bounds) -> int | float:
        wanted, word = (numbers.Integral, "an integer") if self.kind is int else (numbers.Real, "a number")
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise self._error(f"must be {word}", value)
        number: Any = value
        problem = bounds.problem(number)  # before the conversion, because float() refuses a very large int
        if problem is not None:
            raise self._error(problem, value)
        return bounds.kind(number)

    def _error(self, problem: str, value: object) -> SettingError:
        return SettingError(f"{{{self.name}}} {{problem}}, got {{value}}", problem=problem, value=shortened(value))


def declare(
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    no_limit: bool = False,
    choices: tuple[str, ...] = (),
    form: str | None = None,
    distinct: bool = False,
    group: str = "",
    flag: bool = True,
    tune: Range | Choice | None = None,
) -> dict[str, Any]:
    """Metadata of a dataclass field that declares a setting.

    Args:
        help: meaning, with the unit of a number; `--help` shows it.
        low, high, above, below, no_limit: range of a number, see `Bounds`.
        choices, form, distinct, group, flag, tune: see `Setting`.
    """
    limits = {"low": low, "high": high, "above": above, "below": below, "no_limit": no_limit}
    rules = {"choices": choices, "form": form, "distinct": distinct, "group": group, "flag": flag, "tune": tune}
    return {"help": help, "limits": limits, **rules}


@functools.cache
def declared(settings: type) -> tuple[Setting, ...]:
    """Settings of a dataclass, in the order of its fields.

    Raises:
        TypeError: if a field has no metadata of `declare`, or a type that no flag can have.
    """
    return tuple(_setting(settings, field) for field in dataclasses.fields(settings))


def _setting(settings: type, field: "dataclasses.Field[Any]") -> Setting:
    rules = dict(field.metadata)
    if "help" not in rules:
        raise TypeError(f"{settings.__name__}.{field.name} must be declared: field(metadata=declare(...))")
    kind, optional, several = _kind(field.type)
    if kind not in (int, float, bool, str):
        raise TypeError(f"{settings.__name__}.{field.name} must be int, float, bool, str or several of them")
    limits = rules.pop("limits")
    bounds = Bounds(kind, **limits) if kind in (int, float) else None
    return Setting(field.name, kind, several, optional, field.default, bounds=bounds, **rules)


def _kind(annotation: Any) -> tuple[Any, bool, bool]:
    """Type of one value, whether None is allowed, and whether there are several values."""
    optional = isinstance(annotation, types.UnionType)
    if optional:
        annotation = next(part for part in typing.get_args(annotation) if part is not types.NoneType)
    several = typing.get_origin(annotation) is Sequence
    return (typing.get_args(annotation)[0] if several else annotation), optional, several


def check_settings(settings: object) -> None:
    """Check every field of a settings dataclass.

    Raises:
        SettingError: if a value is out of its range.
    """
    for setting in declared(type(settings)):
        setting.checked(getattr(settings, setting.name))


def text_problem(value: object, form: str | None) -> str | None:
    """Rule that a text breaks ("must be a sentence"), or None.

    Args:
        value: text to check.
        form: "name" of an experiment, a project or a dataset, which is also a folder's name; "sentence"; "label", which
            may be empty; "reading" of a latent; "base", a pretrained model; or None.
    """
    if form == "name":
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}", value):
            return "must be 1 to 100 letters, digits, '_', '-' or '.', and begin with no '-' or '.'"
    elif form == "sentence":
        if not isinstance(value, str) or not value.split() or "\0" in value:
            return "must be a sentence"
        if not is_unicode(value):
            return "must be a sentence in UTF-8"
    elif form == "label":
        if not isinstance(value, str) or "\0" in value:
            return "must be a label, which is a text"
    elif form == "base":
        if not isinstance(value, str) or not (BASE.fullmatch(value) or ("\0" not in value and os.path.isdir(value))):
            return "must be bundled, the folder of a pretrained model, or its name on the hub"
    elif form == "reading":
        if readings.canonical(value) is None:
            return f"must be {readings.KNOWN}"
    elif not isinstance(value, str):
        return "must be a text"
    return None


def is_unicode(text: str) -> bool:
    """True if a text has no half of a character, which Python puts in the place of bytes that are not UTF-8."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def repeated(values: Iterable[Any]) -> list[Any]:
    """Values that occur again after their first occurrence."""
    known = list(values)
    return [value for number, value in enumerate(known) if value in known[:number]]


def shortened(value: object) -> str:
    """A value as Python code of at most about 80 characters."""
    show = reprlib.Repr()
    show.maxstring = show.maxother = show.maxlong = 80
    return show.repr(value)


def _is_list(value: object) -> TypeGuard[Iterable[object]]:
    return isinstance(value, Iterable) and not isinstance(value, str)
