"""The Linux guest dressed as an ESXi host, which the lab's virtual machines boot over the network."""

from .build import BOOT_OPTIONS, Guest, GuestError, build_guest

__all__ = ["BOOT_OPTIONS", "Guest", "GuestError", "build_guest"]
