"""Payloads and the archives in them: compressions, tar, vmtar, unpacking."""
