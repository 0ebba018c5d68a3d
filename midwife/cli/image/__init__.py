"""``midwife image``: one module for each group of its subcommands; ``command.py`` has the command itself."""
