"""Heads on feature maps: detection, segmentation, anomaly."""
