"""One resolver for TFTP and HTTP: a name, and who asks, to a file or a rendered text.

Every form of name has one method; the first that knows the name answers. Decisions come from ``core.decide``,
texts from ``serve.render``, files from the image library; nothing is ever joined from a client's words to a
path, except below the site's ``files/`` directory, and there the result is checked.
"""

import ipaddress
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from midwife.core.decide import Action, Answer, decide, find_host
from midwife.core.facts import ASKABLE, Facts, Firmware
from midwife.images.boot import loaders
from midwife.images.boot.files import LOADERS
from midwife.images.boot.library import BootImage, ImageFile, Library
from midwife.images.errors import ImageError
from midwife.serve.attempts import Attempts
from midwife.serve.hostrows import TooManyStrangersError
from midwife.serve.messages import Ask, Content, Found, Outcome, Refused, split_attempt
from midwife.serve.names import BadName, clean, parse_bootcfg, parse_pxelinux
from midwife.serve.netboot import may_ask
from midwife.serve.render import SAMPLE_ATTEMPT, SAMPLE_TOKEN, Renderer, RenderError
from midwife.site.model import Site
from midwife.wire.identity import InvalidIdentity, clean_hostname, clean_serial, parse_mac, parse_uuid

__all__ = ["Resolver"]

_REMEMBERED = 4096
_OEM_STRINGS = 8
"""As many as the entry script asks for."""


class Resolver:
    """Answers for one site and its images; replaced as a whole when the site is read again."""

    def __init__(self, site: Site, library: Library, renderer: Renderer, attempts: Attempts) -> None:
        self._site = site
        self._library = library
        self._renderer = renderer
        self._attempts = attempts
        self._addresses: OrderedDict[str, Facts] = OrderedDict()
        self._routes: tuple[Callable[[Ask, str, str], Outcome | None], ...] = (
            self._site_file,
            self._pxelinux,
            self._ipxe,
            self._boot_cfg,
            self._image_file,
            self._loader,
        )

    def resolve(self, ask: Ask) -> Outcome:
        """The answer, refusals included; never raises for what a client can send."""
        try:
            attempt, rest = split_attempt(clean(ask.name))
            for route in self._routes:
                if outcome := route(ask, attempt, rest):
                    return outcome
        except BadName as error:
            return Refused(ask.id, str(error), 403)
        except (RenderError, ImageError) as error:
            return Refused(ask.id, str(error), 500)
        except TooManyStrangersError as error:
            return Refused(ask.id, str(error), 503)
        except OSError as error:  # a file went away, or is not ours to read
            return Refused(ask.id, f"{ask.name[:120]!r}: {error.strerror or error}", 500)
        return Refused(ask.id, f"no file {ask.name[:120]!r}")

    def remember(self, address: str, facts: Facts) -> None:
        """Who has this address, learned from DHCP or from a request that named the machine."""
        if address and (facts.macs or facts.uuid):
            self._addresses[address] = facts
            self._addresses.move_to_end(address)
            while len(self._addresses) > _REMEMBERED:
                self._addresses.popitem(last=False)

    def machine_at(self, address: str) -> Facts | None:
        """Who has this address, if that is known."""
        return self._addresses.get(address)

    def decide(self, facts: Facts) -> Answer:
        """The one decision, with this site and these images, and with what the machine told earlier."""
        return decide(facts, self._site, self._library.hardware(), self._recorded(facts))

    def _recorded(self, facts: Facts) -> Facts:
        host, _ = find_host(facts, self._site)
        name = host.name if host else facts.mac
        return self._attempts.facts(name).hardware() if name else Facts()

    # the forms of names

    def _pxelinux(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        asked = parse_pxelinux(name)
        if asked is None:
            return None
        if asked.prefix:
            return Refused(ask.id, "asked by address prefix; the MAC address was asked before")
        if asked.uuids:
            # Only a UUID that the site knows is answered: the next name PXELINUX asks has the MAC address.
            known = {host.uuid for host in self._site.hosts if host.uuid}
            uuid = next((value for value in asked.uuids if value in known), "")
            if not uuid:
                return Refused(ask.id, "no host has this UUID; the MAC address is asked next")
            facts = Facts(uuid=uuid)
        elif asked.mac:
            facts = Facts(macs=(asked.mac,))
        else:
            facts = self._addresses.get(asked.ipv4 or ask.client, Facts())
            if not (facts.macs or facts.uuid):
                return Refused(
                    ask.id, "nobody known has this address; boot with a configuration by MAC address"
                )
        return self._configure(ask, replace(facts, firmware=Firmware.BIOS), "pxelinux")

    def _ipxe(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        if name in ("boot.ipxe", "autoexec.ipxe"):
            return Content(ask.id, self._renderer.entry())
        if name != "ipxe":
            return None
        try:
            facts = _ipxe_facts(ask.query)
        except InvalidIdentity as error:
            return Refused(ask.id, f"iPXE said mac={ask.query.get('mac', '')[:40]!r}: {error}", 400)
        return self._configure(ask, facts, "ipxe")

    def _boot_cfg(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        asked = parse_bootcfg(name)
        if asked is None:
            return None
        firmware = Firmware.EFI_HTTP if ask.proto == "http" else Firmware.UNKNOWN
        facts = Facts(macs=(asked.mac,), firmware=firmware) if asked.mac else self._addresses.get(ask.client)
        if not facts:
            return Refused(ask.id, "boot.cfg asked without a MAC address by an unknown address")
        return self._configure(ask, facts, "boot.cfg")

    def _image_file(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        image_name, slash, file_name = name.partition("/")
        if not slash or image_name not in self._library.names():
            return None
        file = self._library.get(image_name).files.get(file_name.lower())
        if file is None:
            return Refused(ask.id, f"image {image_name} has no file {file_name[:80]!r}")
        return Found(ask.id, str(file.path), file.size, cache=True)

    def _loader(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        last = name.rpartition("/")[2]
        wanted = last.lower()
        if wanted not in LOADERS and wanted not in loaders.DISTRIBUTED:
            return self._own_loader(ask, name, last)
        facts = self._addresses.get(ask.client)
        answer = self.decide(facts) if facts else None
        file = self._find_loader(wanted, answer.image if answer else "")
        if file is None:
            return Refused(ask.id, loaders.missing(wanted))
        return Found(ask.id, str(file.path), file.size)

    def _own_loader(self, ask: Ask, name: str, last: str) -> Outcome | None:
        """Whatever the site put into ``loaders/``: an older syslinux with its modules, a shim, wimboot."""
        path = None if name.startswith("files/") else loaders.find(last, self._site.root)
        return Found(ask.id, str(path), path.stat().st_size) if path else None

    def _find_loader(self, name: str, image: str) -> ImageFile | None:
        if file := self._library.loader(name, image or None):
            return file
        path = loaders.find(name, self._site.root)
        return ImageFile(path, path.stat().st_size) if path else None

    def _site_file(self, ask: Ask, _attempt: str, name: str) -> Outcome | None:
        if not name.startswith("files/"):
            return None
        root = self._site.root / "files"
        path = root / name.removeprefix("files/")
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):  # too long, links in a circle, not to be encoded
            return Refused(ask.id, f"{name[:120]!r} cannot be a file")
        if not real.is_relative_to(root.resolve()):
            return Refused(ask.id, f"{name[:120]!r} leads out of the site's files/", 403)
        try:
            found = real.stat()
        except OSError as error:
            return Refused(ask.id, f"{name[:120]!r}: {error.strerror}")
        if not stat.S_ISREG(found.st_mode):
            return Refused(ask.id, f"{name[:120]!r} is no file", 403)
        return Found(ask.id, str(real), found.st_size)

    # configurations

    def _configure(self, ask: Ask, facts: Facts, kind: str) -> Outcome:
        before = self._addresses.get(ask.client)
        if before and set(before.macs) & set(facts.macs):  # the same machine, not a later holder of its lease
            facts = before.merged(facts)
        if not facts.macs and facts.uuid:
            facts = self._with_macs_of_host(facts)
        self.remember(ask.client, facts)
        answer = self.decide(facts)
        if answer.action is Action.LOCAL:
            self._attempts.local(answer, facts, f"{kind} over {ask.proto}")
            return Content(ask.id, self._renderer.local(kind, answer))
        if may_ask(kind, answer, self._site):
            text = f"{kind} asked by {ask.client}: {answer.asking}, through iPXE"
            self._attempts.seen(answer, facts, "asked", text, {"missing": list(answer.wanting)})
            return Content(ask.id, self._renderer.ask(answer, self._recorded(facts).merged(facts)))
        if answer.action in (Action.WAIT, Action.ASK):
            return self._nothing(ask, answer, facts, kind)
        image = self._bootable(kind, answer, facts, ask)
        if not self._carries_token(kind, image):
            via = f"{kind} over {ask.proto}"
            attempt = self._attempts.begin(answer, facts, image, ask.client, via)
            return Content(ask.id, self._renderer.text(kind, answer, facts, image, attempt, "", ask.proto))
        grant = self._attempts.grant(answer, facts, image, ask.client, f"{kind} over {ask.proto}")
        body = self._renderer.text(kind, answer, facts, image, grant.attempt, grant.token, ask.proto)
        return Content(ask.id, body, attempt=grant.attempt)

    def _nothing(self, ask: Ask, answer: Answer, facts: Facts, kind: str) -> Content:
        """It waits, and its console says why."""
        told = f"{kind} asked by {ask.client}: {answer.why}"
        known = self._recorded(facts).merged(facts)
        waits = replace(answer, action=Action.WAIT)  # it cannot be asked
        self._attempts.seen(waits, facts, "no-image", told, {"missing": list(answer.missing)})
        return Content(ask.id, self._renderer.wait(kind, answer, known))

    def _bootable(self, kind: str, answer: Answer, facts: Facts, ask: Ask) -> BootImage:
        """The image, once its configuration was rendered on trial: what cannot be given begins no boot attempt.

        Raises ImageError and RenderError, which timeline and status of the host tell.
        """
        try:
            image = self._library.get(answer.image)
            self._renderer.text(kind, answer, facts, image, SAMPLE_ATTEMPT, SAMPLE_TOKEN, ask.proto)
        except (ImageError, RenderError) as error:
            self._attempts.refused(answer, facts, ask.client, f"{kind} over {ask.proto}: {error}")
            raise
        return image

    @staticmethod
    def _carries_token(kind: str, image: BootImage) -> bool:
        """An ESXi image gets its kernel line from boot.cfg; what leads to mboot carries none."""
        return image.kind == "linux" or kind == "boot.cfg"

    def _with_macs_of_host(self, facts: Facts) -> Facts:
        answer = self.decide(facts)
        return replace(facts, macs=answer.host.macs) if answer.host else facts


def _ipxe_facts(query: dict[str, str]) -> Facts:
    """Facts from the variables that the entry script sends. Raises InvalidIdentity for a bad MAC address."""
    uuid = query.get("uuid", "")
    try:
        uuid = parse_uuid(uuid) if uuid else ""
    except InvalidIdentity:
        uuid = ""  # some firmware has none, and iPXE sends what it has
    efi = query.get("platform") == "efi"
    hostname, _, domain = clean_hostname(query.get("hostname", "")).partition(".")
    return Facts(
        macs=(parse_mac(query.get("mac", "")),),
        uuid=uuid,
        serial=clean_serial(_word(query.get("serial", ""))),
        asset=clean_serial(_word(query.get("asset", ""))),
        vendor=_word(query.get("manufacturer", "")),
        model=_word(query.get("product", "")),
        family=_word(query.get("family", "")),
        oemstrings=tuple(filter(None, (_word(query.get(f"oem{n}", "")) for n in range(1, _OEM_STRINGS + 1)))),
        hostname=hostname,
        domain=domain,
        ipv4=_ipv4(query.get("ip", "")),
        firmware=Firmware.IPXE_EFI if efi else Firmware.IPXE_BIOS,
        asked=ASKABLE,
    )


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return ""


def _word(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:128].strip()
