"""Bring your own ONNX: a foreign graph becomes a bundle."""
