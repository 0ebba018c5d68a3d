"""What is known of a machine now, wherever it came from: DHCP options, iPXE variables, the callback.

Facts are values: they are merged, never changed. A later source wins where both know something, because it
has looked closer (iPXE reads SMBIOS, the callback asks the running system).
"""

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

__all__ = ["ASKABLE", "Facts", "Firmware"]

_MOST_MACS = 32  # a caller may claim new ones with every packet; no machine has so many


ASKABLE = (
    *("asset", "domain", "family", "firmware", "hostname", "ipv4", "ipv6", "model", "oemstring"),
    *("relay", "serial", "uuid", "vendor", "version", "vlan"),
)
"""What a machine that could be asked either told or does not have: every attribute but the MAC address, also those
that iPXE does not know, because nobody else will tell them before it boots."""


class Firmware(StrEnum):
    """Who asks, told apart by DHCP options 60, 77 and 93 (RFC 4578, RFC 5970) or by the name it asks for."""

    UNKNOWN = ""
    BIOS = "bios"
    """A BIOS PXE ROM (architecture 0)."""
    EFI = "efi"
    """UEFI PXE on x64 (architecture 7, on old firmware 9)."""
    EFI_HTTP = "efi-http"
    """UEFI HTTP boot on x64 (architecture 16)."""
    IPXE_BIOS = "ipxe-bios"
    IPXE_EFI = "ipxe-efi"


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine's attributes; "" and () mean: not known."""

    macs: tuple[str, ...] = ()
    """Canonical, as ``identity.parse_mac`` gives them; the first is the one it boots from."""
    uuid: str = ""
    serial: str = ""
    asset: str = ""
    vendor: str = ""
    model: str = ""
    family: str = ""
    oemstrings: tuple[str, ...] = ()
    hostname: str = ""
    domain: str = ""
    ipv4: str = ""
    ipv6: str = ""
    firmware: Firmware = Firmware.UNKNOWN
    relay: str = ""
    """Address of the DHCP relay (giaddr), if the request came through one."""
    vlan: str = ""
    """Number of the VLAN that the DHCP relay names (option 82)."""
    version: str = ""
    """What the booted system calls itself: "VMware ESXi 8.0.3 build-24022510"."""
    asked: tuple[str, ...] = ()
    """Attributes that it was asked for: what is empty then, it does not have."""

    @property
    def mac(self) -> str:
        """The MAC address it boots from, or ""."""
        return self.macs[0] if self.macs else ""

    def merged(self, newer: "Facts") -> "Facts":
        """These facts with everything that ``newer`` knows laid over them; MAC addresses add up, to 32."""
        changes: dict[str, Any] = {
            f.name: getattr(newer, f.name) for f in fields(newer) if getattr(newer, f.name)
        }
        if newer.asked:
            changes["asked"] = tuple(dict.fromkeys(self.asked + newer.asked))
        if newer.macs:
            changes["macs"] = tuple(dict.fromkeys(newer.macs + self.macs))[:_MOST_MACS]
        return replace(self, **changes)

    def hardware(self) -> "Facts":
        """What stays the same from boot to boot: SMBIOS, and that it was asked for it."""
        return Facts(
            uuid=self.uuid,
            serial=self.serial,
            asset=self.asset,
            vendor=self.vendor,
            model=self.model,
            family=self.family,
            oemstrings=self.oemstrings,
            asked=self.asked,
        )

    def to_json(self) -> dict[str, Any]:
        """Only what is known, as plain data."""
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Facts":
        """The inverse of ``to_json``; keys and kinds of firmware that a newer version wrote are left out."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in known
        }
        if "firmware" in values:
            told = values["firmware"]
            values["firmware"] = Firmware(told) if told in list(Firmware) else Firmware.UNKNOWN
        if "asked" in values:
            values["asked"] = tuple(name for name in values["asked"] if name in ASKABLE)
        return cls(**values)

    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The facts under Auto Deploy's attribute names; what is not known is not in it.

        What the machine was asked for and does not have is in it with no value: ``()``.
        """
        known = {
            "mac": self.macs,
            "uuid": (self.uuid,),
            "serial": (self.serial,),
            "asset": (self.asset,),
            "vendor": (self.vendor,),
            "model": (self.model,),
            "family": (self.family,),
            "oemstring": self.oemstrings,
            "hostname": (self.hostname,),
            "domain": (self.domain,),
            "ipv4": (self.ipv4,),
            "ipv6": (self.ipv6,),
            "firmware": (str(self.firmware),),
            "relay": (self.relay,),
            "version": (self.version,),
            "vlan": (self.vlan,),
        }
        told = {name: values for name, values in known.items() if any(values)}
        return told | {name: () for name in self.asked if name not in told}
