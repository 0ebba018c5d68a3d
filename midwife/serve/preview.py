"""What a host would get, without serving it: the same decision, library and renderer as the live service, with a
placeholder where the token will be. For ``midwife render`` and ``midwife explain``; changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from midwife.core.decide import Action, Answer, decide
from midwife.core.dhcpanswer import NetbootTarget, Silence, answer, example_request
from midwife.core.facts import Facts, Firmware
from midwife.images.library import BootImage, Library
from midwife.images.names import ImageError
from midwife.serve.netboot import netboot_target
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
        return decide(facts, self.site, self.library.names())

    def image(self, found: Answer) -> BootImage | None:
        """The image of the answer. Raises ImageError."""
        return self.library.get(found.image) if found.action is Action.BOOT else None

    def render(self, facts: Facts, kind: str, proto: str) -> bytes:
        """The exact bytes, but for the token and the attempt's id. Raises RenderError, ImageError."""
        found = self.decide(facts)
        if found.action is Action.LOCAL:
            return self._renderer.local(kind, found)
        image = self.image(found)
        if image is None:
            if kind == "boot.cfg":
                raise RenderError(f"{found.name} has nothing to boot: {found.reasons[-1]}")
            return self._renderer.wait(kind, found, facts)
        if kind == "boot.cfg":
            return self._renderer.boot_cfg(found, image, SAMPLE_ATTEMPT, SAMPLE_TOKEN, proto)
        make = self._renderer.ipxe if kind == "ipxe" else self._renderer.pxelinux
        return make(found, facts, image, SAMPLE_ATTEMPT, SAMPLE_TOKEN)

    def paths(self, facts: Facts) -> Iterator[PathAnswer]:
        """The DHCP answer for every kind of firmware."""
        found = self.decide(facts)
        try:
            image = self.image(found)
            why = found.reasons[0]
        except ImageError as error:
            image, why = None, str(error)
        for firmware in (
            Firmware.BIOS,
            Firmware.EFI,
            Firmware.EFI_HTTP,
            Firmware.IPXE_BIOS,
            Firmware.IPXE_EFI,
        ):
            target = netboot_target(self.site, image, firmware)
            yield self._path(facts, firmware, self._allowed(found, target), found, why)

    def _allowed(self, found: Answer, target: NetbootTarget) -> NetbootTarget | None:
        if found.action is Action.LOCAL:
            return None
        stranger = found.host is None
        return None if stranger and self.site.main.proxydhcp.answer == "known" else target

    def _path(
        self, facts: Facts, firmware: Firmware, target: NetbootTarget | None, found: Answer, why: str
    ) -> PathAnswer:
        local = found.action is Action.LOCAL
        said = answer(
            example_request(replace(facts, firmware=firmware)),
            server=self.site.main.server.address,
            boot=target,
            port_kind=67,
            why="it boots from its own disk" if local else why,
        )
        loads = target.load(firmware) if target else ""
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
