"""Trace and edit ONNX graphs."""
