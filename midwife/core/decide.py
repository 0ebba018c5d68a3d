"""What does this machine get? The one answer that DHCP, TFTP, HTTP, the callback and ``midwife explain`` share.

Pure: facts and site in, answer with its reasons out. A host file speaks for its host, then its pin; what they
leave open the rules fill in, per item type the first rule that matches (rules/match.py). Nothing that hangs on an
unknown fact is guessed: if it is what to boot, the answer is to ask; the rest is settled when the host calls back
and has told more. Nothing here knows protocols or what happened before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from midwife.core.facts import Facts
from midwife.core.fitting import fit
from midwife.core.pins import Pin, pin_of
from midwife.images.objects.profile import HardwareRule
from midwife.rules.attributes import LABEL
from midwife.rules.match import Matched, evaluate
from midwife.site.model import BootMode, Host, Site
from midwife.wire.identity import swap_uuid

__all__ = ["Action", "Answer", "attributes_of", "decide", "facts_of", "find_host", "settle"]

_NO_IMAGE = "no image: nothing to boot"
_BOOTS = frozenset({"image", "boot"})
"""What must be certain before it boots."""


class Action(StrEnum):
    """The four things that can be said to a machine that asks."""

    BOOT = "boot"
    LOCAL = "local"
    ASK = "ask"
    """What it gets hangs on facts that it has not told: ask it for them, with iPXE."""
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
    location: str = ""
    """Where it goes when it joins a vCenter."""
    script_bundle: str = ""
    missing: tuple[str, ...] = ()
    """ASK: the attributes that are not known and could change what it gets."""
    unsettled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What counts only after the boot and is not certain yet: item type -> attributes that could change it."""
    refused: str = ""
    """WAIT: why the image that it is given is not for this machine."""
    given_by: Mapping[str, str] = field(default_factory=dict)
    """Item type -> who gives it: ``host file``, ``pin`` or the rule's name in quotes."""

    @property
    def options(self) -> str:
        """Kernel options of the host's own."""
        return self.host.options if self.host else ""

    @property
    def wanting(self) -> tuple[str, ...]:
        """Attributes to ask for where a loader can hand over to iPXE: they could change what it gets."""
        return tuple(
            dict.fromkeys([*self.missing, *(name for one in self.unsettled.values() for name in one)])
        )

    @property
    def asking(self) -> str:
        """In one line, what it is asked for."""
        are = "is not known, and it" if len(self.wanting) == 1 else "are not known, and they"
        return f"its {_listed(self.wanting)} {are} could change what it gets: it is asked first"

    @property
    def unmatched(self) -> bool:
        """Whether it waits because neither its file nor a rule gives it an image."""
        return self.reasons[-1:] == (_NO_IMAGE,)

    @property
    def why(self) -> str:
        """The reason in one line, for a console and for ``midwife status``."""
        return self.refused or (self.reasons[-1] if self.reasons else "nothing to boot")


def facts_of(host: Host) -> Facts:
    """What its file says of a host."""
    return Facts(macs=host.macs, uuid=host.uuid or "", serial=host.serial)


def attributes_of(facts: Facts, host: Host | None) -> dict[str, tuple[str, ...]]:
    """What patterns are tested against: what the machine told, what its file says of it, and its labels."""
    known = facts_of(host).merged(facts) if host else facts
    labels = host.labels.items() if host else ()
    return known.attributes() | {f"{LABEL}{name.lower()}": (value,) for name, value in labels if value}


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


def decide(
    facts: Facts,
    site: Site,
    images: Mapping[str, Sequence[HardwareRule]] | None = None,
    recorded: Facts | None = None,
) -> Answer:
    """What this machine gets.

    ``images``: those that can be served, and which hardware each is for (None: do not check).
    ``recorded``: what the machine told of its hardware at an earlier time; it counts for patterns, and identifies
    nobody, because anybody may have told it.
    """
    host, why = find_host(facts, site)
    name = host.name if host else facts.mac or facts.uuid or facts.ipv4 or "unknown"
    if not host and why.startswith("more than one"):
        return Answer(Action.WAIT, name, reasons=(why,))
    known = recorded.hardware().merged(facts) if recorded else facts
    draft = _Draft(known, host, pin_of(site, host, facts.macs), site)
    draft.reasons.append(why)
    return draft.answer(name, images)


def settle(facts: Facts, site: Site, host: Host | None, name: str) -> Answer:
    """What a machine gets that has booted already: whose host file counts was decided then, and stays."""
    return _Draft(facts, host, pin_of(site, host, facts.macs), site).answer(name, None)


class _Draft:
    """An answer in the making."""

    def __init__(self, facts: Facts, host: Host | None, pin: Pin | None, site: Site) -> None:
        self.reasons: list[str] = []
        self._facts = facts_of(host).merged(facts) if host else facts
        self._host = host
        self._pin = pin
        self._by: dict[str, str] = {}
        self._matched = evaluate(site.rules, attributes_of(facts, host))

    def answer(self, name: str, images: Mapping[str, Sequence[HardwareRule]] | None) -> Answer:
        given = {kind: self._item(kind) for kind in ("image", "configuration", "boot", *_LATER)}
        unsettled = {kind: names for kind, names in self._unsure().items() if kind not in _BOOTS}
        for kind, names in unsettled.items():
            self.reasons.append(
                f"{kind}: its {_listed(names)} could still change it; settled when it calls back"
            )
        action, missing, refused = self._action(given, images)
        return Answer(
            action,
            name,
            self._host,
            image=given["image"],
            configuration=given["configuration"],
            mode=_mode(given["boot"]),
            reasons=tuple(self.reasons),
            location=given["location"],
            script_bundle=given["script-bundle"],
            missing=missing,
            unsettled=unsettled,
            refused=refused,
            given_by=self._by,
        )

    def _action(
        self, given: Mapping[str, str], images: Mapping[str, Sequence[HardwareRule]] | None
    ) -> tuple[Action, tuple[str, ...], str]:
        """With what is missing, and why it is refused."""
        unsure = {kind: names for kind, names in self._unsure().items() if kind in _BOOTS}
        if given["boot"] == "local" and "boot" not in unsure:
            return Action.LOCAL, (), ""
        if unsure:
            return self._ask(tuple(dict.fromkeys(name for names in unsure.values() for name in names)))
        image = given["image"]
        if not image:
            self.reasons += [f"rule {rule}: {reason}" for rule, reason in _misses(self._matched)]
            return self._wait(_NO_IMAGE)
        if images is None:
            return Action.BOOT, (), ""
        if image not in images:
            return self._wait(
                f"image {image} is neither imported nor described in midwife.yaml: nothing to boot"
            )
        fitting = fit(image, images[image], self._facts)
        if fitting.missing:
            return self._ask(fitting.missing)
        if fitting.refused:
            self.reasons.append(fitting.refused)
            return Action.WAIT, (), fitting.refused
        return Action.BOOT, (), ""

    def _wait(self, reason: str) -> tuple[Action, tuple[str, ...], str]:
        self.reasons.append(reason)
        return Action.WAIT, (), ""

    def _ask(self, missing: tuple[str, ...]) -> tuple[Action, tuple[str, ...], str]:
        self.reasons.append(Answer(Action.ASK, "", missing=missing).asking)
        return Action.ASK, missing, ""

    def _unsure(self) -> dict[str, tuple[str, ...]]:
        """Item types that facts which are not known could change, with those facts."""
        said = {kind for kind, by in self._by.items() if by in (_HOST_FILE, _PIN)}
        return {kind: names for kind, names in self._matched.open.items() if kind not in said}

    def _item(self, kind: str) -> str:
        if self._host and (value := _said(self._host, kind)):
            self._by[kind] = _HOST_FILE
            self.reasons.append(f"{kind} {value}: host file {self._host.name}")
            return value
        if self._pin and (value := self._pin.items.given().get(kind, "")):
            self._by[kind] = _PIN
            self.reasons.append(f"{kind} {value}: pinned as {self._pin.name} in pins.yaml")
            return value
        if found := self._matched.items.get(kind):
            self._by[kind] = repr(found.rule)
            self.reasons.append(f"{kind} {found.value}: rule {found.rule!r}")
            return found.value
        return ""


_HOST_FILE, _PIN = "host file", "pin"
_LATER = ("location", "script-bundle")
"""What counts once the host is up; a host file does not give it."""


def _said(host: Host, kind: str) -> str:
    return {"image": host.image, "configuration": host.configuration, "boot": host.boot}.get(kind) or ""


def _mode(text: str) -> BootMode:
    return "install" if text == "install" else "local" if text == "local" else "stateless"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _misses(matched: Matched) -> list[tuple[str, str]]:
    return [(repr(step.rule), step.reason) for step in matched.trace if step.outcome != "match"]
