"""The one exception that a user of the scripts may see, as one line."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do.

    Scripts print it as one line and exit with status 2 (`pipeline.cli.parser.run`).
    """


class LostError(UserError):
    """Another process of those that were launched together has ended."""


class UnfinishedError(UserError):
    """Something that came in between: what is done is kept, and the same command goes on from there."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in a line that is not too long."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
