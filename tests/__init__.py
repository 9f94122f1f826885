"""Tests of the method, the models and the users' workflow."""
