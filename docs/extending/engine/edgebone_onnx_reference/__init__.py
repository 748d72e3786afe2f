"""ONNX's reference evaluator as an engine of edgebone: exact, slow, and without a runtime to install."""
