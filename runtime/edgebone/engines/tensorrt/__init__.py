"""TensorRT and TensorRT-RTX: compile, keep and run engines."""
