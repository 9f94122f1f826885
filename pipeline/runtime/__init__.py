"""Errors, files, locks, signals, processes and devices: everything that knows no text and no model."""
