"""The workstation's subcommands, which the program ``edgebone`` imports when they are run."""
