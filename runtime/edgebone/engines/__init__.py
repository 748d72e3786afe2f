"""Runs networks: one protocol, a folder per engine family, and the choice among engines."""
