"""Verify exported graphs against the networks they were made from."""
