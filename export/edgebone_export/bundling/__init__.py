"""Assemble a bundle's contents."""
