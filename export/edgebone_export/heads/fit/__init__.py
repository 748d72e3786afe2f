"""Fit heads of any kind."""
