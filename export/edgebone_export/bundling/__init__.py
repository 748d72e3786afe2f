"""Assemble what a bundle holds."""
