"""The seam to whatever runs plans: start, cancel, resume after a crash."""
