"""The command line: one file per subcommand; a subcommand's dependencies are imported when it runs."""

from edgebone.cli.main import main

__all__ = ["main"]
