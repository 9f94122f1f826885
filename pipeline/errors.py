"""The one exception that a user of the scripts may see, as one line."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do.

    Scripts print it as one line and exit with status 2 (`pipeline.cli.run`).
    """
