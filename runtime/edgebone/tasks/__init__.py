"""Kinds of output, independent of the decoder: one file per task, and a row in ``edgebone.tasks.table``."""
