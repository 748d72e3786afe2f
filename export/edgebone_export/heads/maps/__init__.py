"""Fit heads on feature maps: detection, segmentation, anomaly."""
