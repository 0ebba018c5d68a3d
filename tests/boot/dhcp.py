"""The DHCP server that is already there: dnsmasq, by default one that knows nothing of booting.

``Boot`` makes it the other kind, whose owner has pasted in where midwife is. Knows nothing of midwife.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Boot", "configuration"]


@dataclass(frozen=True, slots=True)
class Boot:
    """Boot options of the DHCP server; an empty one is not given."""

    server: str
    """Address of the TFTP server."""
    bios: str = ""
    """File for a BIOS (architecture 0) that is not iPXE yet."""
    efi: str = ""
    """File for UEFI PXE (architecture 7 or 9) that is not iPXE yet."""
    ipxe: str = ""
    """URL or file for iPXE, whatever it runs on."""
    http: str = ""
    """URL for UEFI HTTP boot (architecture 16)."""
    tftp_root: str = ""
    """A directory that dnsmasq itself serves by TFTP, where a test wants no other server."""
    extra: tuple[str, ...] = field(default=())
    """Further lines of dnsmasq's configuration."""

    def lines(self) -> list[str]:
        """As dnsmasq's configuration."""
        words = [
            "dhcp-userclass=set:ipxe,iPXE",
            "dhcp-match=set:bios,option:client-arch,0",
            "dhcp-match=set:efi,option:client-arch,7",
            "dhcp-match=set:efi,option:client-arch,9",
            "dhcp-match=set:http,option:client-arch,16",
        ]
        if self.ipxe:
            words.append(f"dhcp-boot=tag:ipxe,{self.ipxe},,{self.server}")
        if self.bios:
            words.append(f"dhcp-boot=tag:!ipxe,tag:bios,{self.bios},,{self.server}")
        if self.efi:
            words.append(f"dhcp-boot=tag:!ipxe,tag:efi,{self.efi},,{self.server}")
        if self.http:
            # UEFI firmware takes an offer for HTTP boot only if it carries this class back.
            words += ["dhcp-option-force=tag:http,60,HTTPClient", f"dhcp-boot=tag:http,{self.http}"]
        if self.tftp_root:
            words += ["enable-tftp", f"tftp-root={self.tftp_root}"]
        return [*words, *self.extra]


def configuration(
    *, interface: str, address: str, boot: Boot | None, reservations: Mapping[str, str], lease_file: str
) -> str:
    """dnsmasq's configuration for a /24 network; reservations are addresses by MAC address."""
    network = address.rpartition(".")[0]
    lines = [
        "port=0",  # no DNS
        "keep-in-foreground",
        "user=root",  # it is alone in its namespace, and the log is a pipe
        "log-facility=-",
        "log-dhcp",
        "no-ping",  # saves the 3 s in which it would look whether an address is taken
        "dhcp-authoritative",
        "bind-dynamic",
        f"interface={interface}",
        f"dhcp-leasefile={lease_file}",
        f"dhcp-range={network}.100,{network}.199,255.255.255.0,1h",
        # iPXE waits 13 s for an IPv6 router that does not answer.
        "enable-ra",
        "dhcp-range=fd00:77::,ra-stateless,64,1h",
        *(f"dhcp-host={mac},{reserved}" for mac, reserved in reservations.items()),
        *(boot.lines() if boot else []),
    ]
    return "\n".join(lines) + "\n"
