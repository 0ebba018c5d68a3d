"""Takes a VIB's signature apart: PKCS #7 / CMS SignedData (RFC 2315, RFC 5652) out of PEM or plain DER.

A small reader of our own, because the library's declarative one has no BER and throws away the bytes that were
signed. Knows no keys and checks nothing: ``midwife.images.vib.signing.signature`` does. Any bytes give a value or
FormatError.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from midwife.images.errors import FormatError

__all__ = ["MAX_SIGNATURE", "SignedData", "SignerInfo", "names_of_certificate", "parse_signature"]

MAX_SIGNATURE = 1 << 18
"""Bytes of a signature that are looked at: real ones have 2 to 10 KB."""

_MAX_DEPTH = 16  # of indefinite lengths inside each other; SignedData itself has 8 levels
_MAX_CHILDREN = 256  # of one element; more are a trap
_MAX_CERTIFICATES = 32
_MAX_SIGNERS = 8
_PEM = re.compile(
    rb"-----BEGIN (PKCS7|CMS|PKCS #7 SIGNED DATA)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----", re.DOTALL
)

_INTEGER, _OCTETS, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_IMPLICIT_0, _CONSTRUCTED_0, _CONSTRUCTED_1 = 0x80, 0xA0, 0xA1
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signer: who (by issuer and serial number, or by key identifier), how, and the signature."""

    issuer: bytes
    """The issuer's name as it is encoded; b"" if the signer is named by key identifier."""
    serial: bytes
    key_id: bytes
    digest: str
    """Object identifier of the hash, ``2.16.840.1.101.3.4.2.1``."""
    algorithm: str
    """Object identifier of the signature's algorithm."""
    attributes: bytes
    """The signed attributes as they were signed (RFC 5652 section 5.4: as a SET); b"" without any."""
    content_type: str
    message_digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedData:
    """What a signature carries."""

    content_type: str
    content: bytes | None
    """None: detached, as in every VIB."""
    certificates: tuple[bytes, ...]
    """As encoded; not necessarily in an order."""
    signers: tuple[SignerInfo, ...]


def parse_signature(data: bytes) -> SignedData:
    """``sig.pkcs7`` of a VIB: PEM, or plain DER (BER too, where OpenSSL streamed it). Raises FormatError."""
    if len(data) > MAX_SIGNATURE:
        raise FormatError(f"the signature has {len(data)} bytes; {MAX_SIGNATURE} at most")
    return _signed_data(_Element.first(_der(data)))


def names_of_certificate(certificate: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, serial number and subject as they are encoded. Raises FormatError."""
    fields = _Fields(_Fields(_Element.first(certificate).expect(_SEQUENCE, "certificate")).take(_SEQUENCE))
    fields.skip(_CONSTRUCTED_0)  # the version
    serial = fields.take(_INTEGER).content
    fields.take(_SEQUENCE)  # the algorithm, once more
    issuer = fields.take(_SEQUENCE).whole
    fields.take(_SEQUENCE)  # the dates
    return issuer, serial, fields.take(_SEQUENCE).whole


def _der(data: bytes) -> bytes:
    found = _PEM.search(data)
    if found:
        try:
            return base64.b64decode(b"".join(found[2].split()), validate=True)
        except binascii.Error:
            raise FormatError("the signature's PEM text is damaged: it is not base64") from None
    if data[:1] == b"\x30":
        return data
    raise FormatError("the signature is neither PEM (-----BEGIN PKCS7-----) nor DER")


@dataclass(frozen=True, slots=True)
class _Element:
    """One ASN.1 element (X.690 section 8.1) within ``data``; tags have one byte here."""

    data: bytes
    tag: int
    start: int
    body: int
    end: int
    """Where its content ends; an indefinite one has two more bytes behind that."""
    after: int

    @property
    def content(self) -> bytes:
        return self.data[self.body : self.end]

    @property
    def whole(self) -> bytes:
        return self.data[self.start : self.after]

    @classmethod
    def first(cls, data: bytes) -> "_Element":
        """What follows it is of no interest, as for OpenSSL."""
        return cls.read(data, 0, len(data), 0)

    @classmethod
    def read(cls, data: bytes, at: int, limit: int, depth: int) -> "_Element":
        if at + 2 > limit:
            raise FormatError(f"the signature ends in the middle of something, at byte {at}")
        tag, length = data[at], data[at + 1]
        if tag & 0x1F == 0x1F:
            raise FormatError(f"a tag of several bytes, which no signature has, at byte {at}")
        body = at + 2
        if length == 0x80:
            end = cls._find_end(data, at, body, limit, depth)
            return cls(data, tag, at, body, end, end + 2)
        if length > 0x80:
            count = length & 0x7F
            if count > 4 or body + count > limit:
                raise FormatError(f"an impossible length at byte {at} of the signature")
            length = int.from_bytes(data[body : body + count], "big")
            body += count
        if length > limit - body:
            raise FormatError(f"the signature ends in the middle of the element at byte {at}")
        return cls(data, tag, at, body, body + length, body + length)

    @classmethod
    def _find_end(cls, data: bytes, start: int, at: int, limit: int, depth: int) -> int:
        if not data[start] & 0x20 or depth >= _MAX_DEPTH:
            raise FormatError(f"an impossible length at byte {start} of the signature")
        while data[at : at + 2] != b"\0\0" or at + 2 > limit:
            at = cls.read(data, at, limit, depth + 1).after
        return at

    def expect(self, tag: int, what: str) -> "_Element":
        if self.tag != tag:
            raise FormatError(f"byte {self.start} of the signature is no {what}")
        return self

    def children(self) -> "Iterator[_Element]":
        at, count = self.body, 0
        while at < self.end:
            child = _Element.read(self.data, at, self.end, 0)
            at, count = child.after, count + 1
            if count > _MAX_CHILDREN:
                raise FormatError(f"more than {_MAX_CHILDREN} values at byte {self.start} of the signature")
            yield child

    def octets(self) -> bytes:
        """An octet string, also in pieces (BER)."""
        if self.tag == _OCTETS:
            return self.content
        self.expect(_OCTETS | 0x20, "octet string")
        return b"".join(piece.expect(_OCTETS, "octet string").content for piece in self.children())

    def identifier(self) -> str:
        """An object identifier with dots."""
        self.expect(_OID, "object identifier")
        numbers, value = [], 0
        for byte in self.content[:64]:
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                numbers.append(value)
                value = 0
        if not numbers:
            raise FormatError(f"an empty object identifier at byte {self.start} of the signature")
        top = min(numbers[0] // 40, 2)
        return ".".join(str(number) for number in (top, numbers[0] - 40 * top, *numbers[1:]))


class _Fields:
    """The fields of a SEQUENCE, taken one after the other."""

    def __init__(self, sequence: _Element) -> None:
        self._left = list(sequence.children())
        self._start = sequence.start

    def take(self, *tags: int) -> _Element:
        if not self._left or self._left[0].tag not in tags:
            raise FormatError(f"something is missing in the sequence at byte {self._start} of the signature")
        return self._left.pop(0)

    def skip(self, tag: int) -> _Element | None:
        """An optional field."""
        return self._left.pop(0) if self._left and self._left[0].tag == tag else None


def _signed_data(outer: _Element) -> SignedData:
    info = _Fields(outer.expect(_SEQUENCE, "PKCS #7 message"))
    kind = info.take(_OID).identifier()
    if kind != _SIGNED_DATA:
        raise FormatError(f"the signature is a PKCS #7 message of another kind ({kind}), not SignedData")
    (inner,) = _only(info.take(_CONSTRUCTED_0))
    fields = _Fields(inner.expect(_SEQUENCE, "SignedData"))
    fields.take(_INTEGER)  # version
    fields.take(_SET)  # the hashes that occur; each signer says its own
    content = _Fields(fields.take(_SEQUENCE))
    content_type = content.take(_OID).identifier()
    embedded = content.skip(_CONSTRUCTED_0)
    certificates = fields.skip(_CONSTRUCTED_0)
    fields.skip(_CONSTRUCTED_1)  # revocation lists
    signers = list(fields.take(_SET).children())
    if len(signers) > _MAX_SIGNERS:
        raise FormatError(f"the signature has {len(signers)} signers; {_MAX_SIGNERS} at most")
    found = [one.whole for one in certificates.children() if one.tag == _SEQUENCE] if certificates else []
    if len(found) > _MAX_CERTIFICATES:
        raise FormatError(f"the signature carries {len(found)} certificates; {_MAX_CERTIFICATES} at most")
    return SignedData(
        content_type,
        None if embedded is None else _only(embedded)[0].octets(),
        tuple(found),
        tuple(_signer(one.expect(_SEQUENCE, "SignerInfo")) for one in signers),
    )


def _signer(element: _Element) -> SignerInfo:
    fields = _Fields(element)
    fields.take(_INTEGER)  # version
    issuer = serial = key_id = b""
    who = fields.take(_SEQUENCE, _IMPLICIT_0)
    if who.tag == _SEQUENCE:
        names = _Fields(who)
        issuer, serial = names.take(_SEQUENCE).whole, names.take(_INTEGER).content
    else:
        key_id = who.content
    digest = _Fields(fields.take(_SEQUENCE)).take(_OID).identifier()
    attributes = fields.skip(_CONSTRUCTED_0)
    algorithm = _Fields(fields.take(_SEQUENCE)).take(_OID).identifier()
    signature = fields.take(_OCTETS).content
    signed, content_type, message_digest = b"", "", b""
    if attributes is not None:
        signed = _as_set(attributes.content)
        content_type, message_digest = _attributes(attributes)
    return SignerInfo(
        issuer, serial, key_id, digest, algorithm, signed, content_type, message_digest, signature
    )


def _attributes(attributes: _Element) -> tuple[str, bytes]:
    """The two attributes that RFC 5652 section 5.3 demands, each once and with one value."""
    found: dict[str, _Element] = {}
    for attribute in attributes.children():
        fields = _Fields(attribute.expect(_SEQUENCE, "attribute"))
        kind, values = fields.take(_OID).identifier(), fields.take(_SET)
        if kind not in (_CONTENT_TYPE, _MESSAGE_DIGEST):
            continue
        if kind in found:
            raise FormatError("the signature has a signed attribute twice")
        found[kind] = _only(values)[0]
    if len(found) != 2:
        raise FormatError("the signature has signed attributes, but not the message's type and digest")
    return found[_CONTENT_TYPE].identifier(), found[_MESSAGE_DIGEST].octets()


def _only(element: _Element) -> list[_Element]:
    found = list(element.children())
    if len(found) != 1:
        raise FormatError(f"byte {element.start} of the signature holds {len(found)} values instead of one")
    return found


def _as_set(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([_SET, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([_SET, 0x80 | width]) + size.to_bytes(width, "big") + content
