"""Errors that a user of the scripts sees as one line."""


class UserError(Exception):
    """An error that the user can fix. The message states the problem and the remedy.

    Scripts print it as one line and exit with status 2 (`pipeline.cli.entry.run`).
    """


class LostError(UserError):
    """Another process of a distributed run has ended."""


class UnfinishedError(UserError):
    """The work was cut short. Finished parts are kept, and the same command resumes from them."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, at most 200 characters."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def one_line(error: BaseException) -> str:
    """Return a library's whole error message on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]
