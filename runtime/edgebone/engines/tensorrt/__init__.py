"""TensorRT and TensorRT-RTX: compile, cache and run engines."""
