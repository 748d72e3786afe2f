"""Proof that what was made computes what it was made from computes."""
