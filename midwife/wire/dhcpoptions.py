"""What is inside DHCP options: numbers, texts, user classes, client architectures, machine identifiers.

Implements the pieces of RFC 2132, RFC 3004 (option 77), RFC 4578 (93, 94, 97) and the PXE 2.1 vendor options
(inside 43) that network boot needs. Every function here takes any bytes: a value that makes no sense reads as
"not there", because a boot must not fail over an option that nobody needs.
"""

import re
from enum import IntEnum
from uuid import UUID

__all__ = [
    "MessageType",
    "Option",
    "PxeOption",
    "address_of",
    "architectures_of",
    "guid_of",
    "message_type_of",
    "option_name",
    "suboptions_of",
    "text_of",
    "user_classes_of",
    "vlan_of",
]


class MessageType(IntEnum):
    """Option 53 (RFC 2132 section 9.6); NONE stands for a BOOTP packet without it."""

    NONE = 0
    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """The option codes that have a meaning here."""

    PAD = 0
    HOST_NAME = 12
    VENDOR_OPTIONS = 43
    REQUESTED_ADDRESS = 50
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_LIST = 55
    MAX_SIZE = 57
    VENDOR_CLASS = 60
    CLIENT_ID = 61
    TFTP_SERVER_NAME = 66
    BOOT_FILE = 67
    USER_CLASS = 77
    RELAY_INFO = 82
    CLIENT_ARCH = 93
    CLIENT_NDI = 94
    CLIENT_GUID = 97
    IPXE = 175
    """iPXE's own encapsulated options: its features and build (ipxe.org/howto/dhcpd)."""
    END = 255


class PxeOption(IntEnum):
    """Sub-options of option 43 when option 60 says PXEClient (PXE 2.1, section 2.2.2)."""

    PAD = 0
    DISCOVERY_CONTROL = 6
    BOOT_ITEM = 71
    END = 255


def message_type_of(data: bytes) -> MessageType:
    """Option 53; NONE for any number but those of RFC 2132 (leasequery and its kin are not for us)."""
    try:
        return MessageType(data[0]) if len(data) == 1 else MessageType.NONE
    except ValueError:
        return MessageType.NONE


def option_name(code: int) -> str:
    """``vendor-class (60)``, or ``option 209`` for one that has no name here."""
    try:
        return f"{Option(code).name.lower().replace('_', '-')} ({code})"
    except ValueError:
        return f"option {code}"


def text_of(data: bytes) -> str:
    """Printable ASCII up to the first NUL; every other byte shows as ``\\xNN``, so that a log line stays one.

    Some senders count a terminating NUL into the length (RFC 2132 section 2 tells receivers to bear it).
    """
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in data.split(b"\0", 1)[0])


def address_of(data: bytes) -> str:
    """A dotted IPv4 address, "" if it is not four bytes."""
    return ".".join(str(b) for b in data) if len(data) == 4 else ""


def user_classes_of(data: bytes) -> tuple[str, ...]:
    """The user classes of option 77, in both encodings that are in the field.

    RFC 3004 wants a sequence of length-prefixed strings. iPXE sends the bare text ``iPXE`` and will go on
    doing so (ipxe.org/cfg/user-class calls it a long-standing bug). Bytes that do not add up as the one are
    the other.
    """
    classes = []
    rest = data
    while rest:
        length = rest[0]
        if length == 0 or length >= len(rest):
            bare = text_of(data)
            return (bare,) if bare else ()
        classes.append(text_of(rest[1 : length + 1]))
        rest = rest[length + 1 :]
    return tuple(classes)


def architectures_of(data: bytes) -> tuple[int, ...]:
    """Client system architectures (option 93), the preferred one first (RFC 4578 section 2.1: a list)."""
    return tuple(int.from_bytes(data[i : i + 2]) for i in range(0, len(data) - 1, 2))


def guid_of(data: bytes) -> str:
    """The SMBIOS UUID of option 97, in the order that iPXE and dmidecode print; "" if there is none.

    The wire carries type 0 and then the structure of SMBIOS, whose first three fields are little-endian
    (seen: QEMU's ``-uuid 11223344-5566-7788-…`` sends 00 44 33 22 11 66 55 88 77 …).
    """
    return str(UUID(bytes_le=data[1:])) if len(data) == 17 and data[0] == 0 else ""


def vlan_of(data: bytes) -> str:
    """The VLAN that a relay names in option 82, as a number; "" if it names none.

    RFC 3046 leaves the circuit id (sub-option 1) to the vendors. Two of their forms are read: Cisco's (0, 4, VLAN
    in two bytes, module, port) and texts that say ``vlan17`` somewhere, as Juniper's do.
    """
    at = 0
    while at + 2 <= len(data):
        code, length = data[at], data[at + 1]
        circuit = data[at + 2 : at + 2 + length]
        if code == 1 and len(circuit) == length:
            if len(circuit) == 6 and circuit[:2] == b"\x00\x04":
                number = int.from_bytes(circuit[2:4])
            else:
                match = re.search(rb"vlan[ -]?([0-9]{1,4})(?![0-9])", circuit, re.IGNORECASE)
                number = int(match[1]) if match else 0
            return str(number) if 1 <= number <= 4094 else ""
        at += 2 + length
    return ""


def suboptions_of(data: bytes) -> dict[int, bytes]:
    """The PXE vendor options inside option 43; what comes after the first malformed one is not there."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != PxeOption.END:
        if data[at] == PxeOption.PAD:
            at += 1
            continue
        if at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            break
        found.setdefault(data[at], data[at + 2 : at + 2 + data[at + 1]])
        at += 2 + data[at + 1]
    return found
