"""Proof that what was made computes what PyTorch computes."""
