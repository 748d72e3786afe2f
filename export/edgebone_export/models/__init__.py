"""Networks by name, by module or by checkpoint."""
