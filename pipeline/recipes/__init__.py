"""Workflows made of several scripts or trainings."""
