"""Attach heads to a bundle, and detach them."""
