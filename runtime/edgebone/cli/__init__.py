"""The command line: one file a subcommand; what a subcommand needs is imported when it runs."""

from edgebone.cli.main import main

__all__ = ["main"]
