"""``edgebone compile``: engines from a bundle's ONNX variants; needs neither torch nor onnx."""
