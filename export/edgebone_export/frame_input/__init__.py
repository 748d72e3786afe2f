"""Frame variants: graphs that take raw camera frames and include all preprocessing."""
