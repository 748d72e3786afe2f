"""Folders of NumPy's archives as a source of edgebone."""
