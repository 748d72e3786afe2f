"""Fit heads on feature vectors: classes, labels, values, embeddings."""
