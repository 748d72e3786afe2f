"""Nearest class mean as a kind of heads of edgebone."""
