"""Load networks by name, module or checkpoint."""
