"""Names of machines: MAC addresses, SMBIOS UUIDs, serial numbers, and which of them identify nothing.

A UUID travels in two byte orders: DHCP option 97, PXELINUX and the SMBIOS 2.6 structure swap the first
three fields (RFC 4578 section 2.3, SMBIOS 7.2.1), iPXE and dmidecode print them in network order. The
order that iPXE and dmidecode print is the one kept here; ``swap_uuid`` gives the other.
"""

import re
from uuid import UUID

__all__ = [
    "InvalidIdentity",
    "clean_hostname",
    "clean_serial",
    "dashed_mac",
    "is_mac",
    "parse_mac",
    "parse_uuid",
    "swap_uuid",
]

_HEX12 = re.compile(r"[0-9a-f]{12}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_UUID = re.compile(r"(urn:uuid:)?\{?[0-9a-f-]{32,36}\}?", re.IGNORECASE)

# Serial numbers, asset tags and UUIDs that vendors leave in place of a real one; two machines with the same
# dummy must not become one host.
_DUMMY_SERIALS = frozenset(
    {
        "",
        "0",
        "none",
        "n/a",
        "na",
        "null",
        "unknown",
        "not specified",
        "not available",
        "not applicable",
        "default string",
        "system serial number",
        "chassis serial number",
        "serial number",
        "to be filled by o.e.m.",
        "to be filled by o.e.m",
        "no asset tag",
        "asset tag",
        "0123456789",
        "1234567890",
        "123456789",
        "xxxxxxxxxx",
        "empty",
        "invalid",
        "oem",
    }
)
_DUMMY_UUIDS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",  # AMI's sample table, on many white boxes
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
    }
)


class InvalidIdentity(ValueError):
    """The text is not a MAC address or UUID; the message says what was read and which forms are understood."""


def parse_mac(text: str) -> str:
    """``52:54:00:12:34:56`` from any usual notation (colons, dashes, dots, bare, PXELINUX's ``01-`` prefix).

    Raises InvalidIdentity.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"01-([0-9a-f]{2}-){5}[0-9a-f]{2}", plain):  # hardware type Ethernet, as in BOOTIF=
        plain = plain[3:]
    digits = re.sub(r"[:.\-]", "", plain)
    if not _HEX12.fullmatch(digits):
        raise InvalidIdentity(f"{text!r} is not a MAC address; write it as 52:54:00:12:34:56")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def is_mac(text: str) -> bool:
    """Whether ``parse_mac`` would accept the text."""
    try:
        parse_mac(text)
    except InvalidIdentity:
        return False
    return True


def dashed_mac(mac: str) -> str:
    """``01-52-54-00-12-34-56``: the form of BOOTIF=, PXELINUX's file names and mboot's directories."""
    return "01-" + mac.replace(":", "-")


def parse_uuid(text: str) -> str:
    """A UUID in lower case with dashes, "" for a vendor's dummy. Raises InvalidIdentity."""
    try:
        plain = text.strip()
        # Not all that Python takes for hexadecimal digits: it allows 1_0 and the digits of other scripts.
        value = str(UUID(plain if _UUID.fullmatch(plain) else ""))
    except ValueError:
        raise InvalidIdentity(
            f"{text!r} is not a UUID; write it as 11223344-5566-7788-99aa-bbccddeeff00"
        ) from None
    return "" if value in _DUMMY_UUIDS else value


def swap_uuid(value: str) -> str:
    """The same UUID in the other byte order (its own inverse); "" stays ""."""
    return str(UUID(bytes=UUID(value).bytes_le)) if value else ""


def clean_hostname(text: str) -> str:
    """The host name, "" if it is none: hosts tell their names unasked, and templates put them into commands."""
    return text if _HOST_NAME.fullmatch(text) else ""


def clean_serial(text: str) -> str:
    """The serial number or asset tag without surrounding blanks, "" if it is one of the known dummies."""
    value = " ".join(text.split())
    return "" if value.lower() in _DUMMY_SERIALS or not value.strip("0. -xX") else value
