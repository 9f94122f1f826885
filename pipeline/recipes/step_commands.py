"""Compare the commands of steps that other machines or other spellings of a place have changed."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

DATA = "--DATA_DIR"
# Flags of places, which differ between machines and change no figure.
PLACES = ("--PROJECT_NAME", "--OUTPUT_DIR", DATA, "--WANDB_ENTITY")


def portable(command: Sequence[str], places: Collection[str] = PLACES) -> str:
    """Return a command as it is on every machine: without the flags of places, and a configuration by its name."""
    words, rest = list[str](), iter(command)
    for word in rest:
        if word in places:
            next(rest)
        else:
            words += [word, Path(next(rest)).name] if word == "--CONFIG" else [word]
    return shlex.join(words)


def in_project(command: Sequence[str]) -> str:
    """Return a command as it is in its project: without the project's place, and with the whole path of the data."""
    flags = ("", *command[:-1])
    whole = [str(Path(word).resolve()) if flag == DATA else word for flag, word in zip(flags, command, strict=True)]
    return portable(whole, [place for place in PLACES if place != DATA])


def same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether two commands of a project do the same, however they spell its folder and whose wandb they use."""
    return in_project(one) == in_project(other)
