"""Runs frames of sources through a model in real time."""
