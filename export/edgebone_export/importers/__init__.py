"""Import ONNX files: make a bundle from another exporter's graph."""
