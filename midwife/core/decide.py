"""What does this machine get? The one answer that DHCP, TFTP, HTTP, the callback and ``midwife explain`` share.

Pure: facts and site in, answer with its reasons out. A host file speaks for its host; what it leaves open the
rules fill in, per item type the first rule that matches (rules/match.py). Nothing here knows protocols or what
happened before.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from midwife.core.facts import Facts
from midwife.rules.attributes import LABEL
from midwife.rules.match import Matched, evaluate
from midwife.site.model import BootMode, Host, Site
from midwife.wire.identity import swap_uuid

__all__ = ["Action", "Answer", "attributes_of", "decide", "facts_of", "find_host"]


class Action(StrEnum):
    """The three things that can be said to a machine that asks."""

    BOOT = "boot"
    LOCAL = "local"
    WAIT = "wait"
    """Nothing to give: say so on its console, let it try again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a machine gets, and why. ``host`` is None for a machine that no host file names."""

    action: Action
    name: str
    """The host's name in the site; a stranger is called by its MAC address."""
    host: Host | None = None
    image: str = ""
    configuration: str = ""
    mode: BootMode = "stateless"
    reasons: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """Kernel options of the host's own."""
        return self.host.options if self.host else ""


def facts_of(host: Host) -> Facts:
    """What its file says of a host."""
    return Facts(macs=host.macs, uuid=host.uuid or "", serial=host.serial)


def attributes_of(facts: Facts, host: Host | None) -> dict[str, tuple[str, ...]]:
    """What patterns are tested against: what the machine told, and the labels of its file."""
    labels = host.labels.items() if host else ()
    return facts.attributes() | {f"{LABEL}{name.lower()}": (value,) for name, value in labels if value}


def find_host(facts: Facts, site: Site) -> tuple[Host | None, str]:
    """The host file that names this machine and by what, or None and why not.

    Any of MAC address, UUID and serial number identifies it. A UUID is compared in both byte orders, because
    firmware gets them mixed up. Two host files that both claim the machine are an error: it gets nothing.
    """
    claims: dict[str, tuple[Host, list[str]]] = {}
    for host in site.hosts:
        why = []
        if shared := [mac for mac in facts.macs if mac in host.macs]:
            why.append(f"MAC address {shared[0]}")
        if facts.uuid and host.uuid and facts.uuid in (host.uuid, swap_uuid(host.uuid)):
            why.append(f"UUID {facts.uuid}")
        if facts.serial and host.serial and facts.serial.lower() == host.serial.lower():
            why.append(f"serial number {facts.serial}")
        if why:
            claims[host.name] = (host, why)
    if not claims:
        return None, "no host file has its MAC address, UUID or serial number"
    if len(claims) > 1:
        told = "; ".join(f"{name} by {', '.join(why)}" for name, (_, why) in claims.items())
        return None, f"more than one host file claims it ({told}): mend hosts/"
    host, why = next(iter(claims.values()))
    return host, f"host file {host.name} has its {' and '.join(why)}"


def decide(facts: Facts, site: Site, images: Collection[str] | None = None) -> Answer:
    """What this machine gets. ``images``: the names that can be served (None: do not check)."""
    host, why = find_host(facts, site)
    name = host.name if host else facts.mac or facts.uuid or facts.ipv4 or "unknown"
    matched = evaluate(site.rules, attributes_of(facts, host))
    reasons = [why]
    image = _item("image", host.image if host else None, host, matched, reasons)
    configuration = _item("configuration", host.configuration if host else None, host, matched, reasons)
    mode = _item("boot", host.boot if host else None, host, matched, reasons) or "stateless"
    if not host and why.startswith("more than one"):
        return Answer(Action.WAIT, name, reasons=tuple(reasons))
    if mode == "local":
        return Answer(Action.LOCAL, name, host, image, configuration, "local", tuple(reasons))
    if not image:
        reasons += [f"rule {rule}: {reason}" for rule, reason in _misses(matched)]
        reasons.append("no image: nothing to boot")
        return Answer(Action.WAIT, name, host, "", configuration, _mode(mode), tuple(reasons))
    if images is not None and image not in images:
        reasons.append(f"image {image} is neither imported nor described in midwife.yaml: nothing to boot")
        return Answer(Action.WAIT, name, host, image, configuration, _mode(mode), tuple(reasons))
    return Answer(Action.BOOT, name, host, image, configuration, _mode(mode), tuple(reasons))


def _mode(text: str) -> BootMode:
    return "install" if text == "install" else "stateless"


def _item(kind: str, of_host: str | None, host: Host | None, matched: Matched, reasons: list[str]) -> str:
    if of_host and host:
        reasons.append(f"{kind} {of_host}: host file {host.name}")
        return of_host
    if found := matched.items.get(kind):
        reasons.append(f"{kind} {found.value}: rule {found.rule!r}")
        return found.value
    return ""


def _misses(matched: Matched) -> list[tuple[str, str]]:
    return [(repr(step.rule), step.reason) for step in matched.trace if step.outcome != "match"]
