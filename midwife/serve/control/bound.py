"""What a reload cannot change: ports, directories and limits that other processes were started with.

Hosts must not be told a port that nobody listens on yet, so until the next start the running values count.
"""

from collections.abc import Mapping

from midwife.site.model import Site

__all__ = ["keep_bound"]

_BOUND: Mapping[str, tuple[str, ...]] = {
    "server": ("data",),
    "tftp": ("listen", "max_transfers", "max_transfers_per_client"),
    "http": ("listen",),
    "callback": ("listen",),
    "proxydhcp": ("enabled", "interfaces"),
}


def keep_bound(running: Site, wanted: Site) -> tuple[Site, tuple[str, ...]]:
    """``wanted`` with the running values of what only a restart changes, and the names of what differs."""
    sections, names = {}, []
    for section, fields in _BOUND.items():
        old, new = getattr(running.main, section), getattr(wanted.main, section)
        kept = {name: getattr(old, name) for name in fields if getattr(old, name) != getattr(new, name)}
        if kept:
            sections[section] = new.model_copy(update=kept)
            names += [f"{section}.{name.replace('_', '-')}" for name in kept]
    main = wanted.main.model_copy(update=sections)
    return wanted.model_copy(update={"main": main}), tuple(names)
