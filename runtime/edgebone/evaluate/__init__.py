"""Accuracy of a bundle on labelled pictures, through the same path that serves frames."""
