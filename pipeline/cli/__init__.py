"""Command lines: parser, types, flags, and one command module a script."""
