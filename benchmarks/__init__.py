"""Measurements of speed and memory, written beside the scripts that make them."""
