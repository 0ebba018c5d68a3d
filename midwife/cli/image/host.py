"""Which VIBs a live host has: asked over SSH, with the login and the pinned host keys of the service.

Only a host that shows the keys of its last authenticated callback is believed; there is no trust on first use.
"""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from midwife.cli.common import fail, open_site, printable
from midwife.cli.observed import connect as connect_store

if TYPE_CHECKING:
    from midwife.customize.connect import Login
    from midwife.customize.masking import Masker
    from midwife.images.profile.resolved import ResolvedProfile
    from midwife.site.model import Host, Site

__all__ = ["host_image"]

_PATIENCE = 20.0  # seconds for the login; the host is up, or it is not
_TIMEOUT = 120.0  # esxcli on a busy host takes half a minute
_LIST = "esxcli --formatter=csv software vib list 2>/dev/null || esxcli software vib list"


def host_image(path: Path, name: str, keys: tuple[str, ...] = ()) -> "ResolvedProfile":
    """What ``esxcli software vib list`` says there. ``keys``: its SSH host keys, in place of the known ones.

    Ends the command where it cannot be asked; raises FormatError for output that is no such list.
    """
    from midwife.customize.cancel import Cancel
    from midwife.customize.connect import connect
    from midwife.customize.errors import CustomizeError
    from midwife.customize.masking import Masker
    from midwife.images.profile.hostvibs import parse_vib_list

    site = open_site(path).site
    host = next((host for host in site.hosts if host.name == name), None)
    if host is None:
        fail(
            f"{printable(name)!r} is no host of the site: {', '.join(host.name for host in site.hosts) or 'none'}"
        )
    masker, cancel = Masker(), Cancel()
    try:
        login = _login(site, host, keys, masker)
        connection = connect(login, cancel=cancel, masker=masker, timeout=_PATIENCE)
        try:
            said = connection.run(_LIST, timeout=_TIMEOUT, mask=False)
        finally:
            connection.close()
    except CustomizeError as error:
        fail(f"{name}: {printable(str(error))}")
    if said.rc:
        fail(f"{name}: esxcli software vib list: exit code {said.rc}: {printable(said.text[-300:])}")
    if "bytes left out …]" in said.stdout:  # customize keeps 64 KiB of what a command prints
        fail(f"{name}: its list of VIBs is too long to be read over SSH; save it and use --host-output")
    return parse_vib_list(said.stdout, name=name)


@dataclass(frozen=True, slots=True)
class _Observed:
    """What the service knows of a host."""

    caller: str = ""
    configuration: str = ""
    pins: tuple[str, ...] = ()


def _login(site: "Site", host: "Host", keys: tuple[str, ...], masker: "Masker") -> "Login":
    """As the service would log in. Ends the command where something is not known."""
    from midwife.core.plan import effective_ssh
    from midwife.customize.connect import Login
    from midwife.customize.hostkey import Pins
    from midwife.customize.secrets import Secrets
    from midwife.site.model import Configuration

    seen = _observed(site, host.name)
    address = host.address or seen.caller
    if not address:
        fail(f"where is {host.name}? It has not called back yet; write address: into its host file")
    if not (keys or seen.pins):
        fail(
            f"no SSH host key of {host.name} is known: read it off the host's console "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and give it with --host-key, "
            "or save what `esxcli software vib list` prints there and use --host-output"
        )
    try:
        pins = Pins.parse(keys or seen.pins)
    except ValueError as error:
        fail(f"{error}; write it as SHA256:… or as ssh-ed25519:AAAA…")
    named = host.configuration or seen.configuration
    ssh = effective_ssh(site.main.ssh, site.configurations.get(named, Configuration(name="none")), host)
    key = site.root / ssh.key if ssh.key else site.data_dir / "keys" / "id_ed25519"
    password = None
    if ssh.password is not None:
        secrets = Secrets(site.main.secrets, root=site.root)
        password = secrets.resolve("SSH password", ssh.password, masker)
    return Login(address, pins, ssh.port, ssh.user, key if key.exists() else None, password)


def _observed(site: "Site", host: str) -> _Observed:
    """From the database, if there is one."""
    if not (site.data_dir / "midwife.db").exists():
        return _Observed()
    db = connect_store(site.root)
    query = "SELECT a.answer, a.pinned FROM hosts h JOIN attempts a ON a.id = h.attempt WHERE h.id = ?"
    try:
        row = db.execute(query, (host,)).fetchone()
        if row is None:
            return _Observed()
        answer = json.loads(row["answer"])
        pins = tuple(str(pin) for pin in json.loads(row["pinned"]))
        return _Observed(str(answer.get("caller") or ""), str(answer.get("configuration") or ""), pins)
    except (sqlite3.Error, ValueError, AttributeError, TypeError) as error:
        fail(f"what was observed of {host} cannot be read: {error}")
    finally:
        db.close()
