"""Heads on a frozen backbone: fit them on its features, attach them to its graph, detach them."""
