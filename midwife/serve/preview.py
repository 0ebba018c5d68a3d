"""What a host would get, without serving it: the same decision, library and renderer as the live service, with a
placeholder where the token will be. For ``midwife render`` and ``midwife explain``; changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from midwife.core.decide import Action, Answer, decide
from midwife.core.dhcpanswer import Decision, Silence, answer, example_request
from midwife.core.facts import Facts, Firmware
from midwife.images.boot.library import BootImage, Library
from midwife.serve.netboot import dhcp_decision, may_ask
from midwife.serve.render import SAMPLE_ATTEMPT, SAMPLE_TOKEN, Renderer, RenderError
from midwife.site.model import Site
from midwife.wire.dhcp import describe
from midwife.wire.identity import dashed_mac

__all__ = ["KINDS", "PathAnswer", "Preview"]

KINDS = ("boot.cfg", "pxelinux", "ipxe")


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """What one kind of firmware sees."""

    firmware: Firmware
    offer: tuple[str, ...]
    """The proxyDHCP offer, one field a line; empty for silence."""
    silence: str
    """Why proxyDHCP would say nothing."""
    loads: str
    """The first name it loads."""


class Preview:
    """A site as it would answer now."""

    def __init__(self, site: Site, public_key: str) -> None:
        self.site = site
        self.library = Library(site.data_dir, site.main.images, site.root, public_key)
        self._renderer = Renderer(site)

    def decide(self, facts: Facts) -> Answer:
        """As the service decides."""
        return decide(facts, self.site, self.library.hardware())

    def image(self, found: Answer) -> BootImage | None:
        """The image of the answer. Raises ImageError."""
        return self.library.get(found.image) if found.action is Action.BOOT else None

    def render(self, facts: Facts, kind: str, proto: str) -> bytes:
        """The exact bytes, but for the token and the attempt's id. Raises RenderError, ImageError."""
        found = self.decide(facts)
        if found.action is Action.LOCAL:
            return self._renderer.local(kind, found)
        if may_ask(kind, found, self.site):
            return self._renderer.ask(found, facts)
        image = self.image(found)
        if image is None:
            if found.action is Action.ASK and kind == "ipxe":
                raise RenderError(f"it hangs on what iPXE tells: {found.why}")
            return self._renderer.wait(kind, found, facts)
        return self._renderer.text(kind, found, facts, image, SAMPLE_ATTEMPT, SAMPLE_TOKEN, proto)

    def paths(self, facts: Facts) -> Iterator[PathAnswer]:
        """The DHCP answer for every kind of firmware."""
        found = self.decide(facts)
        for firmware in (
            Firmware.BIOS,
            Firmware.EFI,
            Firmware.EFI_HTTP,
            Firmware.IPXE_BIOS,
            Firmware.IPXE_EFI,
        ):
            yield self._path(facts, firmware, dhcp_decision(self.site, self.library, found, firmware))

    def _path(self, facts: Facts, firmware: Firmware, decided: Decision) -> PathAnswer:
        said = answer(
            example_request(replace(facts, firmware=firmware)),
            server=self.site.main.server.address,
            boot=decided.target,
            port_kind=67,
            why=decided.reason,
        )
        loads = decided.target.load(firmware) if decided.target else ""
        if isinstance(said, Silence):
            return PathAnswer(firmware, (), said.reason, loads)
        return PathAnswer(firmware, describe(said.packet), "", loads)

    @staticmethod
    def names(facts: Facts) -> tuple[str, ...]:
        """The names of configurations that this machine will ask for."""
        if not facts.mac:
            return ()
        mac = dashed_mac(facts.mac)
        return (f"pxelinux.cfg/{mac}", f"{mac}/boot.cfg", "boot.ipxe, then ipxe?mac=…")
