"""Latency and throughput of a bundle, measured the same way for every engine."""
