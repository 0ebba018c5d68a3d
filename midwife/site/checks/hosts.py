"""Can every host be told from every other one? Names, MAC addresses, UUIDs, serial numbers, addresses.

A UUID counts in both byte orders, because hosts are recognised in both (``core.decide.find_host``).
"""

from collections.abc import Iterator

from midwife.site.draft import Draft, Found
from midwife.site.model import Host
from midwife.site.problems import Problem
from midwife.site.yaml import Place
from midwife.wire.identity import swap_uuid

__all__ = ["check_hosts"]


def check_hosts(draft: Draft) -> Iterator[Problem]:
    """Hosts that nothing identifies, and hosts that share what should identify one."""
    seen: dict[tuple[str, str], Found[Host]] = {}
    for found in draft.hosts:
        host = found.value
        if found.whole and not (host.macs or host.uuid or host.serial):
            hint = "add macs, uuid or serial"
            yield found.place.problem(f"nothing identifies host {host.name}", hint)
        if len(set(host.macs)) < len(host.macs):
            yield found.place.at("macs").problem("macs: the same address is here twice", "take one out")
        for kind, value, place in _claims(found):
            first = seen.setdefault((kind, value), found)
            if first is not found:
                there = f"{first.value.name} ({first.place.line})"
                hint = "it can identify one host only" if kind != "name" else "names are unique"
                yield place.problem(f"{kind} {value} is also that of host {there}", hint)


def _claims(found: Found[Host]) -> Iterator[tuple[str, str, Place]]:
    host, place = found.value, found.place
    yield "name", host.name.lower(), place.at("name")
    for index, mac in enumerate(host.macs):
        yield "MAC address", mac, place.at("macs", index)
    if host.uuid:
        yield "UUID", min(host.uuid, swap_uuid(host.uuid)), place.at("uuid")
    if host.serial:
        yield "serial number", host.serial.lower(), place.at("serial")
    if host.address:
        yield "address", host.address, place.at("address")
