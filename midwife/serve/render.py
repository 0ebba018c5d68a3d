"""Renders what a host is told to boot: iPXE scripts, PXELINUX configurations, ESXi's boot.cfg.

Pure text making: who gets what was decided before. The templates are in ``templates/boot``; a file of the same
name in the site's ``templates/`` takes its place. boot.cfg has no template: it is the image's own, rewritten,
because its keys differ from release to release.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from midwife.core.decide import Answer
from midwife.core.facts import Facts
from midwife.images.boot.library import BootImage
from midwife.resources import template_dir
from midwife.site.model import Site
from midwife.wire import bootcfg
from midwife.wire.bootcmd import ESXI, LINUX, BootCommandError, Endpoint, check_length, kernel_words
from midwife.wire.identity import dashed_mac

__all__ = ["SAMPLE_ATTEMPT", "SAMPLE_TOKEN", "RenderError", "Renderer", "Urls"]

SAMPLE_ATTEMPT = "preview0"
SAMPLE_TOKEN = f"{SAMPLE_ATTEMPT}.your-token-is-made-at-boot"
"""Stand for those of a real boot, at their real length."""


class RenderError(Exception):
    """A configuration cannot be made; the text names the host, the template or option, and what to do."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where hosts reach the service."""

    address: str
    http_port: int
    tftp_port: int
    callback_port: int

    @classmethod
    def of(cls, site: Site) -> "Urls":
        """From the site's address and its first listener of each kind."""
        main = site.main
        ports = [part.listen[0].port if part.listen else 0 for part in (main.http, main.tftp, main.callback)]
        return cls(main.server.address, *ports)

    @property
    def host(self) -> str:
        """The address as URLs want it: IPv6 in brackets."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def http(self) -> str:
        """Base URL without trailing slash."""
        return f"http://{self.host}" + (f":{self.http_port}" if self.http_port != 80 else "")

    @property
    def tftp(self) -> str:
        """Authority for tftp:// URLs."""
        return self.host + (f":{self.tftp_port}" if self.tftp_port != 69 else "")

    @property
    def pbhost(self) -> Endpoint:
        """What PBHOST= names."""
        return Endpoint(self.address, self.callback_port)


class Renderer:
    """The templates of one site."""

    def __init__(self, site: Site) -> None:
        self.urls = Urls.of(site)
        self._folders = (site.root / "templates", template_dir() / "boot")
        self._env = SandboxedEnvironment(
            loader=FileSystemLoader(self._folders),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )

    def entry(self) -> bytes:
        """``boot.ipxe``: the script that asks iPXE who it is."""
        return self._render("entry.ipxe.j2", {"http": self.urls.http})

    def text(
        self, kind: str, answer: Answer, facts: Facts, image: BootImage, attempt: str, token: str, proto: str
    ) -> bytes:
        """What a host that boots this image gets; kind is ``ipxe``, ``pxelinux`` or ``boot.cfg``."""
        if kind == "boot.cfg":
            return self.boot_cfg(answer, image, attempt, token, proto)
        make = self.ipxe if kind == "ipxe" else self.pxelinux
        return make(answer, facts, image, attempt, token)

    def ipxe(self, answer: Answer, facts: Facts, image: BootImage, attempt: str, token: str) -> bytes:
        """The script of a host that boots this image."""
        names = " ".join(f"initrd={module.name}" for module in image.modules)
        values = self._values(answer, facts, image, attempt, token, f"{self.urls.http}/")
        return self._render(f"{image.kind}.ipxe.j2", {**values, "initrd_words": names})

    def pxelinux(self, answer: Answer, facts: Facts, image: BootImage, attempt: str, token: str) -> bytes:
        """The PXELINUX configuration of a host that boots this image."""
        return self._render(
            f"{image.kind}.pxelinux.j2", self._values(answer, facts, image, attempt, token, "")
        )

    def boot_cfg(self, answer: Answer, image: BootImage, attempt: str, token: str, proto: str) -> bytes:
        """ESXi's boot.cfg: names relative to the TFTP root over TFTP, a whole URL as prefix over HTTP."""
        if image.boot_cfg is None:
            raise RenderError(
                f"{answer.name} boots {image.name}, which is no ESXi image: mboot cannot load it. "
                "Let its DHCP server name snponly.efi (UEFI) or pxelinux.0 (BIOS), or let midwife do it"
            )
        prefix = f"a/{attempt}/{image.name}"
        stateless = answer.mode == "stateless"
        cfg = bootcfg.rewrite(
            image.boot_cfg,
            prefix=f"{self.urls.http}/{prefix}" if proto == "http" else prefix,
            kernelopt_add=self._options(answer, image, token),
            kernelopt_drop=bootcfg.STATELESS_DROP if stateless else bootcfg.INSTALL_DROP,
            title=f"midwife: {answer.name} boots {image.name}",
        )
        self._check(answer, bootcfg.kernel_line(cfg), esxi=True)
        return bootcfg.render(cfg)

    def local(self, kind: str, answer: Answer) -> bytes:
        """Boot from the own disk; kind is ``ipxe``, ``pxelinux`` or ``boot.cfg``."""
        if kind == "boot.cfg":
            return bootcfg.render(bootcfg.local_boot_cfg())
        return self._render(f"local.{kind}.j2", {"name": answer.name})

    def wait(self, kind: str, answer: Answer, facts: Facts) -> bytes:
        """Nothing to boot: say so, with what is known and what to do; kinds as for ``text``.

        iPXE and PXELINUX ask again; mboot cannot.
        """
        if kind == "boot.cfg":
            return bootcfg.render(bootcfg.wait_boot_cfg(_title(answer, _printable(facts))))
        return self._render(
            f"wait.{kind}.j2",
            {
                "name": answer.name,
                "facts": _printable(facts),
                "http": self.urls.http,
                "why": _line(_untold(answer)),
                "advice": _line(_advice(answer)),
            },
        )

    def ask(self, answer: Answer, facts: Facts) -> bytes:
        """PXELINUX loads iPXE, which can be asked for what PXELINUX does not tell."""
        values = {"name": answer.name, "facts": _printable(facts), "why": _line(answer.asking)}
        return self._render("ask.pxelinux.j2", values)

    def _values(
        self, answer: Answer, facts: Facts, image: BootImage, attempt: str, token: str, base: str
    ) -> dict[str, Any]:
        line = self._options(answer, image, token)
        mac = facts.mac or (answer.host.macs[0] if answer.host and answer.host.macs else "")
        if image.kind == "linux":
            line = f"{line} BOOTIF={dashed_mac(mac)}" if mac else line
            self._check(answer, line, esxi=False)
        return {
            "name": answer.name,
            "image": image,
            "attempt": attempt,
            "files": f"{base}a/{attempt}/{image.name}",
            "http": self.urls.http,
            "tftp": self.urls.tftp,
            "dashed_mac": dashed_mac(mac) if mac else "default",
            "kernel_line": line,
            "host": answer.host,
        }

    def _options(self, answer: Answer, image: BootImage, token: str) -> str:
        """PBHOST first: the VMkernel and people look for it at the beginning."""
        try:
            words = kernel_words(self.urls.pbhost, token)
        except BootCommandError as error:
            raise RenderError(
                f"{answer.name}: {error}; callback.listen in midwife.yaml gives the port"
            ) from None
        return " ".join(part for part in (words, image.options, answer.options) if part)

    def _check(self, answer: Answer, line: str, *, esxi: bool) -> None:
        try:
            check_length(line, ESXI if esxi else LINUX)
        except BootCommandError as error:
            raise RenderError(f"{answer.name}: {error}") from None

    def _render(self, template: str, values: Mapping[str, Any]) -> bytes:
        try:
            return self._env.get_template(template).render(values).encode()
        except Exception as error:  # the site's own template may do anything: divide by zero, not be UTF-8
            raise RenderError(f"template {self._place(template, error)}: {_reason(error)}") from None

    def _place(self, template: str, error: Exception) -> str:
        """Which file, and which line of it: in the error if it is one of syntax, else where it was raised."""
        path = next((path for path in self._folders if (path / template).is_file()), Path()) / template
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename in (str(path), template)
        ]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        return f"{path}:{line}" if line else str(path)

    def overridden(self) -> list[Path]:
        """The site's own templates that are in use."""
        own = template_dir() / "boot"
        return [path for path in sorted(own.glob("*.j2")) if self._origin(path.name) != str(path)]

    def _origin(self, name: str) -> str | None:
        return self._env.get_template(name).filename


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"


def _untold(answer: Answer) -> str:
    """Why nothing is booted, for the console of a loader that cannot be asked."""
    if answer.unmatched:
        return "no rule gives it an image"
    if not answer.missing:
        return answer.why
    return f"not known, and not to be asked here: {', '.join(answer.missing)}"


def _advice(answer: Answer) -> str:
    """What to do, in a line."""
    if answer.missing:
        return "let DHCP send it iPXE, or write image and boot into its host file"
    return f"midwife {'rule suggest' if answer.unmatched else 'explain'} {answer.name}"


def _title(answer: Answer, facts: Facts) -> str:
    """What mboot shows above its progress bar: one line."""
    told = ("mac", "uuid", "serial", "vendor", "model")
    known = ", ".join(f"{name} {value}" for name in told if (value := getattr(facts, name)))
    return _line(f"midwife has nothing to boot: {_untold(answer)}. {_advice(answer)}. This is {known}")


def _printable(facts: Facts) -> Facts:
    """Facts on a boot loader's console or in its script: a serial number must not become a command."""
    data = facts.to_json()
    clean = {k: _plain(v) if isinstance(v, str) else v for k, v in data.items()}
    return Facts.from_json(clean)


def _plain(text: str, longest: int = 64) -> str:
    return "".join(c if c.isalnum() or c in " .:,_-/" else "?" for c in text)[:longest]


def _line(text: str) -> str:
    """A sentence for a loader's console: semicolons have a meaning in some."""
    return _plain(text.replace(";", ","), 300)
