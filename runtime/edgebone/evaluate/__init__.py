"""Accuracy of a bundle on labelled pictures, through the very path that serves frames."""
