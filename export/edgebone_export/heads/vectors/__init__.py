"""Heads on feature vectors: classes, labels, values, embeddings."""
