"""``midwife rule pin|unpin``: a host keeps what it has, whatever the rules say.

Auto Deploy remembers for every host what it once got; here a person says so, in pins.yaml of the site.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import fail, open_site, printable, site_option
from midwife.cli.observed import connect, data_dir
from midwife.cli.reload import ask_to_reload

if TYPE_CHECKING:
    from midwife.site.model import Site

__all__ = ["pin", "unpin"]


@click.command()
@click.argument("host")
@click.option("--image", help="The image that it keeps.")
@click.option("--configuration", help="The host configuration.")
@click.option("--boot", type=click.Choice(["stateless", "install", "local"]), help="The boot mode.")
@click.option("--location", metavar="DATACENTER[/…]", help="Where it goes in a vCenter.")
@click.option("--script-bundle", metavar="FILE", help="The script bundle.")
@site_option
def pin(
    host: str, image: str | None, configuration: str | None, boot: str | None, location: str | None,
    script_bundle: str | None, site: Path,
) -> None:  # fmt: skip
    """Make HOST (name or MAC address) keep what it has, whatever the rules say.

    Without options: what it got at its last boot. With options: these, in place of what its pin said. It counts at
    the next boot.
    """
    from midwife.site.pinsfile import make_items, read, save

    loaded = open_site(site).site
    name = _name(loaded, host)
    said = {
        "image": image,
        "configuration": configuration,
        "boot": boot,
        "location": location,
        "script-bundle": script_bundle,
    }
    given = {kind: value for kind, value in said.items() if value} or _last(loaded, name)
    with _told():
        file = read(loaded.root)
        key, items = file.key(name), make_items(given)
        _must_exist(loaded, given)
        save(file, {**file.pins, key: items})
    _reload(site)
    kept = ", ".join(f"{kind} {printable(value)}" for kind, value in items.given().items())
    click.echo(f"{printable(name)} keeps {kept}: pins.yaml says so")


@click.command()
@click.argument("host")
@site_option
def unpin(host: str, site: Path) -> None:
    """Let the rules decide again what HOST gets, from its next boot on."""
    from midwife.site.pinsfile import read, save

    with _told():
        file = read(site)
        key = file.key(host)
        if key not in file.pins:
            known = ", ".join(map(printable, file.pins)) or "no pin"
            fail(f"{printable(host)} is not pinned; pins.yaml has {known}")
        save(file, {name: items for name, items in file.pins.items() if name != key})
    _reload(site)
    click.echo(f"{printable(key)} gets what the rules say")


@contextmanager
def _told() -> Iterator[None]:
    from midwife.site.pinsfile import PinsFileError

    try:
        yield
    except PinsFileError as error:
        fail("\n".join(printable(line) for line in str(error).split("\n")))


def _name(site: "Site", named: str) -> str:
    """The name of a host, also of one that is named by a MAC address; else the MAC address."""
    from midwife.wire.identity import is_mac, parse_mac

    mac = parse_mac(named) if is_mac(named) else ""
    for host in site.hosts:
        if named == host.name or mac in host.macs:
            return host.name
    if not mac:
        known = ", ".join(host.name for host in site.hosts) or "none"
        fail(f"{printable(named)} is no host of the site ({known}) and no MAC address")
    return mac


def _must_exist(site: "Site", given: dict[str, str]) -> None:
    """Ends the command for what midwife check would refuse."""
    from midwife.images.boot.library import Library
    from midwife.site.checks.bundles import bundle_file
    from midwife.site.problems import nearest

    known = {
        "image": Library(site.data_dir, site.main.images, site.root).names(),
        "configuration": tuple(site.configurations),
    }
    for kind, names in known.items():
        if kind in given and given[kind] not in names:
            fail(f"there is no {kind} {printable(given[kind])}; {nearest(given[kind], names)}")
    if "script-bundle" in given and (wrong := bundle_file(site.root, given["script-bundle"])[1]):
        fail(printable(wrong))


def _last(site: "Site", name: str) -> dict[str, str]:
    """What it got at its last boot. Ends the command if it never booted from here."""
    advice = f"say what it is to keep: midwife rule pin {name} --image …"
    if not (data_dir(site.root) / "midwife.db").exists():
        fail(f"{name} has not booted from here yet; {advice}")
    db = connect(site.root)
    try:
        query = "SELECT answer FROM attempts WHERE host = ? ORDER BY started DESC LIMIT 1"
        row = db.execute(query, (name,)).fetchone()
    finally:
        db.close()
    answer = json.loads(row["answer"]) if row else {}
    kinds = {"image": "image", "configuration": "configuration", "boot": "mode"}
    kinds |= {"location": "location", "script-bundle": "script-bundle"}
    given = {kind: str(answer[key]) for kind, key in kinds.items() if answer.get(key)}
    if "image" not in given:
        fail(f"{name} has not booted from here yet; {advice}")
    return given


def _reload(site: Path) -> None:
    if ask_to_reload(site, "pins.yaml is written, but "):
        click.echo("told the service; it counts at the next boot")
