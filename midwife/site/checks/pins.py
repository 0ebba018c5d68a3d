"""Does every pin of pins.yaml belong to one machine, and does it keep something?"""

from collections.abc import Iterator

from midwife.site.draft import Draft
from midwife.site.model import Items
from midwife.site.problems import Problem, nearest
from midwife.wire.identity import is_mac, parse_mac

__all__ = ["check_pins", "pins"]


def pins(draft: Draft) -> dict[str, Items]:
    """By host name or canonical MAC address."""
    return {_canonical(name): found.value for name, found in draft.pins}


def check_pins(draft: Draft) -> Iterator[Problem]:
    """Names that nobody has and machines that are pinned twice (errors), pins of nothing (warnings)."""
    hosts = {host.value.name: host.value for host in draft.hosts}
    owners = {mac: host.name for host in hosts.values() for mac in host.macs}
    first: dict[str, str] = {}
    for name, found in draft.pins:
        place, canonical = found.place, _canonical(name)
        if name not in hosts and not is_mac(name):
            what = f"{name!r} is neither a host of the site nor a MAC address"
            yield place.problem(what, nearest(name, hosts), key=True)
        owner = owners.get(canonical, canonical)
        if owner in first:
            what = f"{name} is the machine that is pinned as {first[owner]} already"
            yield place.problem(what, "one pin is enough; take one out", key=True)
        first.setdefault(owner, name)
        if not found.value.given():
            what, hint = f"the pin of {name} keeps nothing", f"take it out: midwife rule unpin {name}"
            yield place.problem(what, hint, level="warning", key=True)


def _canonical(name: str) -> str:
    return parse_mac(name) if is_mac(name) else name
