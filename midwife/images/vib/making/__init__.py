"""A folder becomes a VIB."""
