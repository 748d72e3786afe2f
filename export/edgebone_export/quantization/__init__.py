"""Make half-precision and quantized variants of a bundle within an accuracy budget."""
