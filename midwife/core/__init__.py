"""Decisions without I/O: facts, identity, decide, lifecycle, tokens, plans."""
