"""``python -m edgebone``."""

from edgebone.cli import main

main()
