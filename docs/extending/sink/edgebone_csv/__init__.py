"""CSV files as a sink of edgebone."""
