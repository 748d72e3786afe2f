"""Compute the features of a frozen backbone that heads read."""
