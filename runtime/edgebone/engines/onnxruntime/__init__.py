"""ONNX Runtime on CPUs and NVIDIA GPUs."""
