"""What a kind of output is, whatever decoder reads it: one file a task, and a row of it in ``edgebone.tasks.table``."""
