"""The attributes that a pattern can ask for: Auto Deploy's, and those that midwife adds.

Source of Auto Deploy's: the attribute table of VMware's documentation (6.7, 8.0), and its concept page for the
BIOS UUID. Knows names and kinds only, not how a value is found.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ATTRIBUTES", "LABEL", "Attribute", "Kind", "attribute"]

Kind = Literal["text", "mac", "uuid", "ipv4", "ipv6", "identity"]
"""How its values are read and compared; ``identity`` is text that must not be a vendor's dummy."""

LABEL = "label."
"""``label.rack=r7`` asks for a label of the host file."""
_LABEL_NAME = re.compile(r"label\.[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that is known of a machine."""

    name: str
    kind: Kind
    meaning: str
    """For messages and the documentation."""
    extension: bool = False
    """Auto Deploy does not have it."""


_EVERY = (
    Attribute("asset", "identity", "SMBIOS asset tag"),
    Attribute("domain", "text", "domain of its name"),
    Attribute("family", "text", "SMBIOS family", extension=True),
    Attribute("firmware", "text", "bios, efi, efi-http, ipxe-bios or ipxe-efi", extension=True),
    Attribute("hostname", "text", "name without the domain"),
    Attribute("ipv4", "ipv4", "its IPv4 address"),
    Attribute("ipv6", "ipv6", "its IPv6 address"),
    Attribute("mac", "mac", "any of its MAC addresses"),
    Attribute("model", "text", "SMBIOS product name"),
    Attribute("oemstring", "text", "any of its SMBIOS OEM strings"),
    Attribute("relay", "ipv4", "address of the DHCP relay", extension=True),
    Attribute("serial", "identity", "SMBIOS serial number"),
    Attribute("uuid", "uuid", "SMBIOS UUID, in either byte order"),
    Attribute("vendor", "text", "SMBIOS manufacturer"),
    Attribute("version", "text", "what the booted system calls itself", extension=True),
    Attribute("vlan", "text", "number of the VLAN that the DHCP relay names", extension=True),
)
ATTRIBUTES: Mapping[str, Attribute] = {one.name: one for one in _EVERY}
"""By name; ``attribute()`` knows the labels too."""


def attribute(name: str) -> Attribute | None:
    """The attribute of this name (lower case), labels included; None if there is none."""
    if _LABEL_NAME.fullmatch(name):
        return Attribute(name, "text", "label of the host file", extension=True)
    return ATTRIBUTES.get(name)
