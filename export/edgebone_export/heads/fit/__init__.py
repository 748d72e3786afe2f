"""Fit a head of any kind."""
