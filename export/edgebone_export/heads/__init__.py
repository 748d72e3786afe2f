"""Heads on a frozen backbone: fitted on its features, attached to its graph, swapped and taken off again."""
