"""Fewer bits: half precision and quantized variants of a bundle, under an accuracy budget."""
