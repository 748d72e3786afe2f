"""Read labelled pictures for fitting heads."""
