"""The workstation's subcommands; plugged into ``edgebone`` by entry points."""
