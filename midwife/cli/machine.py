"""A machine named on the command line (name, MAC address or UUID), with what is known of it."""

import json
from pathlib import Path

from midwife.cli.common import fail, open_site
from midwife.cli.observed import connect, data_dir
from midwife.core.decide import facts_of
from midwife.core.facts import Facts
from midwife.serve.keys import ServiceKeys
from midwife.serve.preview import Preview
from midwife.site.model import Site
from midwife.wire.identity import InvalidIdentity, is_mac, parse_mac, parse_uuid

__all__ = ["open_preview", "the_machine"]


def open_preview(path: Path) -> Preview:
    """The site, ready to be asked. Ends the command if it has errors."""
    site = open_site(path).site
    try:
        keys = ServiceKeys.open(site.data_dir)
    except (OSError, ValueError) as error:
        fail(f"{site.data_dir}/keys: {error}")
    return Preview(site, keys.public_key)


def the_machine(site: Site, named: str) -> Facts:
    """Facts of the machine: what the site says, and what was observed. Ends the command for nonsense."""
    host = next((host for host in site.hosts if host.name == named), None)
    if host:
        facts = facts_of(host)
    elif is_mac(named):
        facts = Facts(macs=(parse_mac(named),))
        named = facts.mac
    else:
        try:
            facts = Facts(uuid=parse_uuid(named))
        except InvalidIdentity:
            known = ", ".join(host.name for host in site.hosts) or "none"
            fail(f"{named!r} is no host of the site ({known}), no MAC address and no UUID")
    return facts.merged(_observed(site.root, named, facts))


def _observed(root: Path, name: str, facts: Facts) -> Facts:
    if not (data_dir(root) / "midwife.db").exists():
        return Facts()
    db = connect(root)
    try:
        for row in db.execute("SELECT id, facts FROM hosts"):
            found = Facts.from_json(json.loads(row["facts"]))
            same_uuid = bool(facts.uuid) and facts.uuid == found.uuid
            if row["id"] == name or set(facts.macs) & set(found.macs) or same_uuid:
                return found
    finally:
        db.close()
    return Facts()
