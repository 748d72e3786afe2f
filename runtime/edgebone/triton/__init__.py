"""``edgebone export-triton``: a model repository for those who serve from NVIDIA Triton."""
