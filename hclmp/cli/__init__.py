"""The command line: one module per command that a person calls."""
