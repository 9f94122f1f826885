"""Texts from a trained model: latents, decoding, the Python interface, shared models."""
