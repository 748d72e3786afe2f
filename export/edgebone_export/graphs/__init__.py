"""ONNX graphs: trace them and edit them."""
