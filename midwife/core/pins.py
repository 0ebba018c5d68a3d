"""Pins: what a host keeps, whatever the rules say. Auto Deploy's remembered association, but in the site's files.

A pin is found by the host's name, or by a MAC address for a machine that no host file names. Pure; the file
``pins.yaml`` is read by ``midwife.site.draft`` and written by ``midwife.site.pinsfile``.
"""

from collections.abc import Collection
from typing import NamedTuple

from midwife.site.model import Host, Items, Site

__all__ = ["Pin", "pin_of"]


class Pin(NamedTuple):
    """A pin, and what it is called in ``pins.yaml``."""

    name: str
    items: Items


def pin_of(site: Site, host: Host | None, macs: Collection[str]) -> Pin | None:
    """The pin of this machine, by its name before its MAC addresses (``midwife check`` refuses both)."""
    names = [host.name, *host.macs] if host else []
    for name in (*names, *macs):
        if name in site.pins:
            return Pin(name, site.pins[name])
    return None
