"""Benchmarks of speed and memory. Each writes its results to this folder."""
