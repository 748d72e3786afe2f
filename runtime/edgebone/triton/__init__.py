"""``edgebone export-triton``: a model repository for NVIDIA Triton."""
