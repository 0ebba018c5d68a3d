"""Image names that a site cannot use. Apart from the model, because image code wants them without pydantic."""

__all__ = ["RESERVED_IMAGE_NAMES"]

RESERVED_IMAGE_NAMES = frozenset({"a", "files", "pxelinux.cfg", "ipxe", "boot.ipxe", "boot.cfg"})
"""First path components that mean something else on the boot plane (docs/explain/architecture.md)."""
