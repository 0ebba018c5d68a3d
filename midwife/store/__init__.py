"""Observed state: hosts, boot attempts, runs and events in a database that may be deleted."""
