"""A loaded bundle: one path from pictures to results."""
