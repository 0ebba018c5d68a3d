"""Every machine that the site knows: those of the host files, with what was observed of them, and strangers.

Reads the database as it is, and needs no running service.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midwife.cli.common import fail, printable
from midwife.cli.observed import connect, data_dir

if TYPE_CHECKING:
    from midwife.core.facts import Facts
    from midwife.site.model import Host, Site

__all__ = ["Machine", "known_machines", "pick", "pinned"]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with its facts."""

    name: str
    """The host's name; a stranger's MAC address."""
    facts: "Facts"
    host: "Host | None"
    attributes: Mapping[str, tuple[str, ...]]
    """What patterns are tested against."""
    fixed: Mapping[str, str]
    """Items that its own file gives; rules cannot change them."""
    row: str = ""
    """Its id in the database; "" if it was never seen."""


def known_machines(site: "Site") -> tuple[Machine, ...]:
    """Host files first, in their order. Ends the command for a database that cannot be read."""
    from midwife.core.decide import attributes_of, facts_of
    from midwife.wire.identity import swap_uuid

    rows = _rows(site)
    places: dict[str, str] = {}
    for row, facts in rows.items():
        for identity in (row, *facts.macs, facts.uuid, facts.serial.casefold()):
            places.setdefault(identity, row)
    found: list[Machine] = []
    taken: set[str] = set()
    for host in site.hosts:
        identities = (
            host.name,
            *host.macs,
            host.uuid or "",
            swap_uuid(host.uuid or ""),
            host.serial.casefold(),
        )
        row = next((places[one] for one in identities if one and one in places), "")
        taken.add(row)
        facts = facts_of(host)
        if row:
            facts = facts.merged(rows[row])
        fixed = {"image": host.image, "configuration": host.configuration, "boot": host.boot}
        given = {kind: value for kind, value in fixed.items() if value}
        found.append(Machine(host.name, facts, host, attributes_of(facts, host), given, row))
    found += [
        Machine(row, facts, None, attributes_of(facts, None), {}, row)
        for row, facts in rows.items()
        if row not in taken
    ]
    return tuple(found)


def pinned(site: "Site", machines: Sequence[Machine]) -> tuple[Machine, ...]:
    """The same machines, in whose ``fixed`` is what their pins give, too."""
    from midwife.core.pins import pin_of

    if not site.pins:
        return tuple(machines)
    found = ((one, pin_of(site, one.host, one.facts.macs)) for one in machines)
    return tuple(replace(one, fixed={**pin.items.given(), **one.fixed}) if pin else one for one, pin in found)


def pick(machines: Sequence[Machine], named: Sequence[str]) -> tuple[Machine, ...]:
    """Those of these names, MAC addresses, UUIDs or serial numbers; all, if none is named.

    Ends the command for a name that nobody has.
    """
    if not named:
        return tuple(machines)
    places: dict[str, Machine] = {}
    for machine in machines:
        facts = machine.facts
        for identity in (*facts.macs, facts.uuid, facts.serial.casefold()):
            if identity:
                places.setdefault(identity, machine)
    places.update({machine.name: machine for machine in machines})  # a name counts before any identity
    found: dict[str, Machine] = {}
    for text in named:
        one = next((places[form] for form in _forms(text) if form in places), None)
        if one is None:
            fail(
                f"{printable(text)} is no machine that is known here; midwife status and hosts/ have them all"
            )
        found[one.name] = one
    return tuple(found.values())


def _forms(text: str) -> tuple[str, ...]:
    """The text as a name, MAC address, UUID in either byte order, serial number."""
    from midwife.wire.identity import InvalidIdentity, is_mac, parse_mac, parse_uuid, swap_uuid

    if is_mac(text):
        return text, parse_mac(text)
    try:
        uuid = parse_uuid(text)
    except InvalidIdentity:
        return text, text.strip().casefold()
    return text, uuid, swap_uuid(uuid)


def _rows(site: "Site") -> "dict[str, Facts]":
    from midwife.core.facts import Facts

    if not (data_dir(site.root) / "midwife.db").exists():
        return {}
    db = connect(site.root)
    try:
        read = db.execute("SELECT id, facts FROM hosts ORDER BY id")
        return {row["id"]: Facts.from_json(json.loads(row["facts"])) for row in read}
    finally:
        db.close()
