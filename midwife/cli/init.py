"""``midwife init``: writes a small commented site directory; it never overwrites and changes nothing else."""

import fcntl
import shlex
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import click

from midwife.cli.common import fail

__all__ = ["Candidate", "candidates", "command"]

# File in the site -> template in templates/site.
_FILES = {
    "midwife.yaml": "midwife.yaml.j2",
    "rules.yaml": "rules.yaml",
    "hosts/esx-01.yaml.sample": "esx-01.yaml.sample",
    "host-configurations/base.yaml.sample": "base.yaml.sample",
    "templates/README.md": "templates-README.md",
    "bundles/README.md": "bundles-README.md",
    "files/README.md": "files-README.md",
    ".gitignore": "gitignore",
}

_SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that booting hosts could reach, and why it may be the one."""

    address: str
    why: str


def candidates() -> tuple[Candidate, ...]:
    """This machine's likely addresses, the likeliest first. Sends nothing."""
    found: dict[str, Candidate] = {}
    for family, remote in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        address = _source_address(family, remote)
        if address:
            found[address] = Candidate(address, "this machine's address on its default route")
    for _, name in socket.if_nameindex():
        address = _interface_address(name)
        if address and not address.startswith("127."):
            found.setdefault(address, Candidate(address, f"the address of {name}"))
    # IPv4 first: PXE firmware that speaks IPv6 is rare.
    return tuple(sorted(found.values(), key=lambda candidate: ":" in candidate.address))


@click.command("init")
@click.argument("site", type=click.Path(path_type=Path))
@click.option("--address", metavar="A", help="The address at which booting hosts reach this machine.")
def command(site: Path, address: str | None) -> None:
    """Write a small commented site directory to SITE.

    SITE must not exist, or be empty but for what version control keeps there. Nothing is ever overwritten.
    """
    root = site.absolute()
    _refuse_occupied(root)
    chosen, others = _choose(address)
    try:
        for name, text in _contents(chosen).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}")
    _tell(root, chosen, others)


def _choose(given: str | None) -> tuple[Candidate, tuple[Candidate, ...]]:
    if given is not None:
        from pydantic import ValidationError  # not above: pydantic takes 200 ms

        from midwife.site.model import Server

        try:
            return Candidate(Server(address=given).address, "given with --address"), ()
        except ValidationError as error:
            fail(f"--address: {error.errors()[0]['msg'].removeprefix('Value error, ')}")
    found = candidates()
    if not found:
        fail("this machine has no address but loopback; give the one hosts will reach with --address")
    return found[0], found[1:]


def _refuse_occupied(root: Path) -> None:
    try:
        if not root.exists():
            return
        names = sorted(path.name for path in root.iterdir())
    except OSError as error:
        fail(f"{root}: {error.strerror}")
    mine = [name for name in names if name in _FILES]
    if mine:
        fail(
            f"{root} has {', '.join(mine)} already and nothing is overwritten; look at it with: midwife check"
        )
    foreign = [name for name in names if not name.startswith((".git", "README", "LICENSE"))]
    if foreign:
        shown = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        fail(f"{root} is not empty (it has {shown}); name a directory that does not exist yet")


def _contents(chosen: Candidate) -> dict[str, str]:
    from jinja2 import StrictUndefined, Template  # not above: Jinja2 takes 100 ms

    from midwife.resources import template_dir

    folder = template_dir() / "site"
    texts = {name: (folder / template).read_text(encoding="utf-8") for name, template in _FILES.items()}
    main = Template(texts["midwife.yaml"], undefined=StrictUndefined, keep_trailing_newline=True)
    return texts | {"midwife.yaml": main.render(address=chosen.address, why=chosen.why)}


def _tell(root: Path, chosen: Candidate, others: tuple[Candidate, ...]) -> None:
    click.echo(f"Wrote the site {root}")
    for name in _FILES:
        click.echo(f"  {name}")
    click.echo(f"Hosts will reach this machine at {chosen.address}: {chosen.why}.")
    if others:
        click.echo("Others: " + ", ".join(f"{other.address} ({other.why})" for other in others))
        click.echo("If one of those is on the boot network, change server.address in midwife.yaml.")
    click.echo("Next:")
    click.echo(f"  cd {shlex.quote(str(root))}")
    click.echo("  midwife check                   # after every change")
    click.echo("  midwife image import FILE.iso   # an ESXi installer ISO")
    click.echo("  midwife serve                   # as root, or with CAP_NET_BIND_SERVICE")


def _source_address(family: socket.AddressFamily, remote: str) -> str:
    """What this machine would send from, "" if nothing. Connecting a datagram socket sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((remote, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if address.startswith(("127.", "fe80:")) or address in ("::1", "0.0.0.0", "::") else address


def _interface_address(name: str) -> str:
    request = struct.pack("16s24x", name.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
    except OSError:  # an interface without an IPv4 address
        return ""
    return socket.inet_ntoa(answer[20:24])
