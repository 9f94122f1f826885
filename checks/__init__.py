"""Checks of the project itself: equality with a revision, and the order of imports."""
