"""Two descriptions of the same VIB made one, as ESXi does it: what it is must be equal, the newer text wins.

Descriptions differ without harm: a depot adds software platforms and rewrites dates. Other contents under the
same id are an error, and it happens (one community VIB is known in eleven contents).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePackage

__all__ = ["differences", "merge"]

_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_Fact = Callable[[SoftwarePackage], Any]
_MUST_BE_EQUAL: dict[str, _Fact] = {
    "type": lambda p: p.type,
    "name": lambda p: p.name,
    "version": lambda p: p.version,  # the text: it is part of the id
    "vendor": lambda p: p.vendor,
    "acceptance level": lambda p: p.acceptance_level,
    "file list": lambda p: frozenset(p.files),
    "overlay": lambda p: p.overlay,
    "payloads": lambda p: [
        (one.name, one.type, one.size, one.boot_order, one.vfat_name, frozenset(one.checksums))
        for one in p.payloads
    ],
}


def differences(a: SoftwarePackage, b: SoftwarePackage) -> tuple[str, ...]:
    """What keeps them from being one VIB, in words; nothing if they are one."""
    return tuple(name for name, fact in _MUST_BE_EQUAL.items() if fact(a) != fact(b))


def merge(a: SoftwarePackage, b: SoftwarePackage) -> SoftwarePackage:
    """The one with the newer release date, ``a`` if they are equal. Raises FormatError, naming what differs."""
    if found := differences(a, b):
        raise FormatError(f"two different VIBs have the id {a.id}: they differ in {', '.join(found)}")
    return b if (b.release_date or _LONG_AGO) > (a.release_date or _LONG_AGO) else a
