"""Signatures and who is believed."""
