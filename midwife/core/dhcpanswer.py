"""What a PXE, UEFI HTTP or iPXE client is told beside the DHCP server that gave it its address.

Implements the proxyDHCP side of PXE 2.1 (section 2.2.1) and RFC 4578, and the HTTP boot answer of UEFI 2.10
(section 24.7.2). Pure: a packet and a decision in, a reply or a reasoned silence out. It knows neither
sockets nor rules; that silence always has a reason is what ``midwife explain`` and the timeline live on.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from midwife.core.facts import Facts, Firmware
from midwife.wire.dhcp import BOOTREPLY, BOOTREQUEST, DhcpPacket
from midwife.wire.dhcpoptions import MessageType, Option, PxeOption, suboptions_of, vlan_of
from midwife.wire.identity import clean_hostname, parse_uuid, swap_uuid

__all__ = [
    "BOOT_SERVER_PORT",
    "SERVER_PORT",
    "Decision",
    "NetbootTarget",
    "PortKind",
    "Reply",
    "Silence",
    "answer",
    "example_request",
    "facts_of",
    "is_netboot",
    "refusal",
]

SERVER_PORT: Literal[67] = 67
CLIENT_PORT = 68
BOOT_SERVER_PORT: Literal[4011] = 4011
PortKind = Literal[67, 4011]

_BROADCAST = "255.255.255.255"
_ANY = "0.0.0.0"

_BIOS = frozenset({0})
_EFI = frozenset({7, 9})
"""x64 UEFI is 7 in what firmware sends, 9 in RFC 4578 as first printed (IANA's registry tells the story);
EDK2 and iPXE send 7, some old firmware 9."""
_EFI_HTTP = frozenset({15, 16})

_ARCHITECTURE_NAMES = {
    6: "32-bit x86 UEFI",
    10: "32-bit ARM UEFI",
    11: "64-bit ARM UEFI",
    18: "32-bit ARM UEFI HTTP",
    19: "64-bit ARM UEFI HTTP",
}

_USE_BOOT_FILE = bytes((PxeOption.DISCOVERY_CONTROL, 1, 8, PxeOption.END))
"""Discovery control, bit 3: take the boot file of this offer, look for no boot server (PXE 2.1 table 2-1).
Without it EDK2 asks once more, on port 4011 (measured; edk2 issue 8149 tells of firmware that never does)."""


@dataclass(frozen=True, slots=True)
class NetbootTarget:
    """What each kind of firmware is to load; "" means there is nothing for it."""

    bios_file: str = ""
    """TFTP name for BIOS PXE: ``pxelinux.0``, ``undionly.kpxe``."""
    efi_file: str = ""
    """TFTP name for UEFI PXE: ``mboot.efi``, ``snponly.efi``."""
    efi_http_url: str = ""
    """Whole URL for UEFI HTTP boot."""
    ipxe_url: str = ""
    """URL for iPXE, or a TFTP name (an iPXE ROM loads ``pxelinux.0``: measured). Scripts need whole URLs: under
    proxyDHCP iPXE's ``${next-server}`` is the DHCP server (measured)."""

    def load(self, firmware: Firmware) -> str:
        """The name or URL for that firmware, "" if there is none."""
        return {
            Firmware.BIOS: self.bios_file,
            Firmware.EFI: self.efi_file,
            Firmware.EFI_HTTP: self.efi_http_url,
            Firmware.IPXE_BIOS: self.ipxe_url,
            Firmware.IPXE_EFI: self.ipxe_url,
        }.get(firmware, "")


class Decision(NamedTuple):
    """What ``ask`` answers: what the host may load (None: nothing), and why."""

    target: NetbootTarget | None
    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A packet to send, and where to."""

    packet: DhcpPacket
    address: str
    port: int
    broadcast: bool = False
    """Whether ``address`` is the LAN's broadcast address (the socket needs SO_BROADCAST)."""


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer, and why, for a person to read."""

    reason: str


def is_netboot(packet: DhcpPacket) -> bool:
    """Whether the packet comes from a client that boots over the network (and not from an ordinary one).

    By the prefix of option 60 only: after a proxy's offer, iPXE sends plain ``PXEClient`` (seen).
    """
    if packet.op != BOOTREQUEST:
        return False
    return packet.vendor_class.startswith(("PXEClient", "HTTPClient")) or _is_ipxe(packet)


def _is_ipxe(packet: DhcpPacket) -> bool:
    # A script may change iPXE's user class ("set user-class"); its encapsulated options stay.
    return "iPXE" in packet.user_classes or packet.option(Option.IPXE) is not None


def _architectures(packet: DhcpPacket) -> tuple[int, ...]:
    """Option 93; the class text (``PXEClient:Arch:00007:UNDI:003000``) only where that is missing, because
    not every stage of iPXE sends the long text (seen)."""
    named = re.match(r"(?:PXE|HTTP)Client:Arch:(\d{5})", packet.vendor_class)
    return packet.architectures or ((int(named[1]),) if named else ())


def _firmware(packet: DhcpPacket) -> Firmware:
    ipxe = _is_ipxe(packet)
    http = packet.vendor_class.startswith("HTTPClient")
    for architecture in _architectures(packet):
        if architecture in _BIOS:
            return Firmware.IPXE_BIOS if ipxe else Firmware.BIOS
        if architecture in _EFI | _EFI_HTTP and ipxe:
            return Firmware.IPXE_EFI
        if architecture in _EFI_HTTP or (architecture in _EFI and http):
            return Firmware.EFI_HTTP
        if architecture in _EFI:
            return Firmware.EFI
    return Firmware.UNKNOWN


def facts_of(packet: DhcpPacket) -> Facts:
    """What the packet tells of its sender. Nothing in it is proven; a host name unfit for DNS is left out."""
    return Facts(
        macs=(packet.mac,) if packet.mac else (),
        uuid=parse_uuid(packet.guid) if packet.guid else "",
        hostname=clean_hostname(packet.host_name),
        ipv4=_own_address(packet),
        firmware=_firmware(packet),
        relay=packet.giaddr if packet.relayed else "",
        vlan=vlan_of(packet.option(Option.RELAY_INFO) or b"") if packet.relayed else "",
    )


def _own_address(packet: DhcpPacket) -> str:
    """The address it has, or takes: a REQUEST is broadcast with the lease that was offered (RFC 2131 4.3.2)."""
    if packet.ciaddr != _ANY:
        return packet.ciaddr
    wanted = packet.option(Option.REQUESTED_ADDRESS)
    if packet.message_type == MessageType.REQUEST and wanted is not None and len(wanted) == 4:
        return str(ipaddress.IPv4Address(wanted))
    return ""


def refusal(packet: DhcpPacket, *, server: str, port_kind: PortKind) -> Silence | None:
    """Why this packet is none of ours, whatever its sender may boot; None if it deserves a decision.

    Asked before the decision, so that a packet that is not for us starts nothing.
    """
    if packet.op == BOOTREPLY:
        return Silence("a server's reply (our own broadcast comes back to us)")
    if not is_netboot(packet):
        return Silence(
            "an ordinary DHCP client: option 60 is neither PXEClient nor HTTPClient, and it is not iPXE"
        )
    if packet.relayed and not _answerable(packet.giaddr):
        return Silence(f"relay address {packet.giaddr} is no unicast address; check the relay agent")
    kind = packet.message_type
    if port_kind == BOOT_SERVER_PORT:
        # Sent to us on purpose: EDK2 puts no server identifier into it, iPXE ours (measured).
        if kind in (MessageType.REQUEST, MessageType.INFORM):
            return None
        return Silence(f"{kind.name} on port 4011, where PXE clients send REQUEST or INFORM")
    if kind == MessageType.DISCOVER:
        return None
    if kind != MessageType.REQUEST:
        return Silence(f"{kind.name} on port 67 is for the DHCP server, not for a proxy")
    if packet.server_id == server:
        return None
    if packet.server_id:
        return Silence(f"the client takes its address from the DHCP server {packet.server_id}")
    return Silence("the client renews an address with its DHCP server")


def _answerable(address: str) -> bool:
    # A forged giaddr must not make us send to a group or to this machine's own services.
    ip = ipaddress.IPv4Address(address)
    return not (ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip.is_reserved)


def answer(
    packet: DhcpPacket,
    *,
    server: str,
    boot: NetbootTarget | None,
    port_kind: PortKind,
    source: tuple[str, int] = (_ANY, CLIENT_PORT),
    why: str = "",
) -> Reply | Silence:
    """What to send to whom for a packet that came from ``source``, or why to be silent.

    ``server`` is the address at which hosts reach us: it becomes the server identifier and the TFTP server.
    ``boot`` is the decision, None for "boot nothing from here", ``why`` its reason.
    """
    refused = refusal(packet, server=server, port_kind=port_kind)
    if refused:
        return refused
    if boot is None:
        return Silence(why or "no decision to boot this host")
    firmware = facts_of(packet).firmware
    if firmware is Firmware.UNKNOWN:
        return Silence(_unknown(packet))
    name = boot.load(firmware)
    if not name:
        return Silence(f"nothing to load is set for {firmware.value} firmware")
    if not name.isascii() or not name.isprintable() or len(name) > 255:
        return Silence(f"the name to load for {firmware.value} is not printable ASCII of at most 255 bytes")
    return _addressed(_reply(packet, server, firmware, name), packet, source)


def _unknown(packet: DhcpPacket) -> str:
    numbers = _architectures(packet)
    if not numbers:
        return "the client does not tell its architecture (option 93); set the boot file in the DHCP server"
    names = ", ".join(f"{n} ({_ARCHITECTURE_NAMES.get(n, 'see RFC 4578')})" for n in numbers)
    return f"client architecture {names}: only x86 BIOS and x64 UEFI are served"


def _reply(packet: DhcpPacket, server: str, firmware: Firmware, name: str) -> DhcpPacket:
    """The OFFER to a DISCOVER, the ACK to anything else; without option 82 never more than 548 bytes, which
    every client must take (RFC 2131 section 2)."""
    offer = packet.message_type == MessageType.DISCOVER
    options = [
        (Option.MESSAGE_TYPE, bytes((MessageType.OFFER if offer else MessageType.ACK,))),
        (Option.SERVER_ID, ipaddress.IPv4Address(server).packed),
        # Firmware ignores an offer whose class is not exactly its own protocol's (measured: SeaBIOS, EDK2).
        (Option.VENDOR_CLASS, b"HTTPClient" if firmware is Firmware.EFI_HTTP else b"PXEClient"),
    ]
    guid = packet.option(Option.CLIENT_GUID)
    if guid is not None and len(guid) <= 17:
        options.append((Option.CLIENT_GUID, guid))
    options.append((Option.BOOT_FILE, name.encode()))
    if firmware is not Firmware.EFI_HTTP:
        options.extend(_vendor_options(packet, offer))
    relay_info = packet.option(Option.RELAY_INFO)
    if packet.relayed and relay_info is not None:
        options.append((Option.RELAY_INFO, relay_info))
    http = firmware is Firmware.EFI_HTTP
    return DhcpPacket(
        op=BOOTREPLY,
        htype=packet.htype,
        chaddr=packet.chaddr,
        xid=packet.xid,
        flags=packet.flags,
        ciaddr=packet.ciaddr,
        # mboot takes its TFTP server from siaddr and never from options 66 or sname (measured); an HTTP offer
        # has no use for it, and the captured one that works leaves it zero.
        siaddr=_ANY if http else server,
        giaddr=packet.giaddr,
        # Old ROMs read the header only; a name too long for it (iPXE URLs) stands in option 67 alone.
        file=b"" if http or len(name) > 127 else name.encode(),
        options=tuple((int(code), value) for code, value in options),
    )


def _vendor_options(packet: DhcpPacket, offer: bool) -> list[tuple[Option, bytes]]:
    """Option 43 of the reply."""
    if offer:
        return [(Option.VENDOR_OPTIONS, _USE_BOOT_FILE)]
    item = suboptions_of(packet.option(Option.VENDOR_OPTIONS) or b"").get(PxeOption.BOOT_ITEM, b"")
    if len(item) != 4:
        return []
    # A client that chose from a boot menu (another proxy's: we send none) wants its choice back (PXE 2.1
    # section 2.4.5; seen: iPXE sends 47 04 80 00 00 00 ff after dnsmasq's menu, and dnsmasq echoes it).
    return [(Option.VENDOR_OPTIONS, bytes((PxeOption.BOOT_ITEM, 4)) + item + bytes((PxeOption.END,)))]


def _addressed(reply: DhcpPacket, packet: DhcpPacket, source: tuple[str, int]) -> Reply:
    if packet.relayed:
        return Reply(reply, packet.giaddr, SERVER_PORT)
    if packet.message_type == MessageType.DISCOVER:
        # The client has no address yet, and an offer that gives it none can only reach it by broadcast,
        # whatever its broadcast flag says (iPXE clears the flag and takes the broadcast: measured).
        return Reply(reply, _BROADCAST, CLIENT_PORT, broadcast=True)
    # EDK2 asks from port 4011 and listens there, iPXE from 68 (measured): back to where it came from.
    if source[0] != _ANY:
        return Reply(reply, source[0], source[1])
    if packet.ciaddr != _ANY:
        return Reply(reply, packet.ciaddr, source[1])
    return Reply(reply, _BROADCAST, source[1], broadcast=True)


def example_request(facts: Facts) -> DhcpPacket:
    """The DISCOVER that a machine with these facts sends, for ``midwife explain``.

    Unknown firmware is taken for x64 UEFI. Options are those of iPXE and EDK2, as captured.
    """
    firmware = facts.firmware or Firmware.EFI
    architecture = {Firmware.BIOS: 0, Firmware.IPXE_BIOS: 0, Firmware.EFI_HTTP: 16}.get(firmware, 7)
    ipxe = firmware in (Firmware.IPXE_BIOS, Firmware.IPXE_EFI)
    client = "HTTPClient" if firmware is Firmware.EFI_HTTP else "PXEClient"
    major, minor = (2, 1) if architecture == 0 else (3, 10 if ipxe else 0)
    options = [
        (Option.MESSAGE_TYPE, bytes((MessageType.DISCOVER,))),
        (Option.MAX_SIZE, (1472).to_bytes(2)),
        (Option.CLIENT_ARCH, architecture.to_bytes(2)),
        (Option.CLIENT_NDI, bytes((1, major, minor))),
        (Option.VENDOR_CLASS, f"{client}:Arch:{architecture:05}:UNDI:{major:03}{minor:03}".encode()),
    ]
    if ipxe:
        options.append((Option.USER_CLASS, b"iPXE"))
    if facts.uuid:
        options.append((Option.CLIENT_GUID, b"\0" + UUID(swap_uuid(facts.uuid)).bytes))
    return DhcpPacket(
        op=BOOTREQUEST,
        xid=0,
        chaddr=bytes.fromhex(facts.mac.replace(":", "")),
        flags=0 if ipxe or architecture == 0 else 0x8000,
        giaddr=facts.relay or _ANY,
        options=tuple((int(code), value) for code, value in options),
    )
