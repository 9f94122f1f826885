"""Figures of models and of samples."""
