"""The control process: everything that decides, and the only one that opens the database."""
