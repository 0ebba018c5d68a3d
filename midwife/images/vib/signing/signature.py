"""Proves a VIB's acceptance level: its signature covers the descriptor, and leads to an anchor of that level.

The descriptor carries the sums of the payloads, so signature, descriptor and payload sums are one chain; the
last link is ``check_payload``'s. Dates of certificates are ignored, as ESXi does: VMware's first anchor expired
in 2019 and its VIBs did not become worse. Source: what ESXi 6.7 accepts, and OpenSSL's verdict on real VIBs.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from midwife.images.errors import FormatError, ImageError, SignatureError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.vib.content import Vib
from midwife.images.vib.descriptor import parse_descriptor
from midwife.images.vib.signing.cms import SignedData, SignerInfo, names_of_certificate, parse_signature
from midwife.images.vib.signing.issuing import signed_by
from midwife.images.vib.signing.trust import LIBRARY_ERRORS, VMWARE, Anchor, Anchors, load_certificate

__all__ = ["VMWARE", "Anchors", "Proof", "prove", "told_otherwise"]

_E = TypeVar("_E", bound=x509.ExtensionType)
_LONGEST_CHAIN = 8
_HASHES: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "1.3.14.3.2.26": ("SHA-1", hashes.SHA1()),  # noqa: S303  # somebody else's choice; it is told
    "2.16.840.1.101.3.4.2.1": ("SHA-256", hashes.SHA256()),
    "2.16.840.1.101.3.4.2.2": ("SHA-384", hashes.SHA384()),
    "2.16.840.1.101.3.4.2.3": ("SHA-512", hashes.SHA512()),
}
_PSS = "1.2.840.113549.1.1.10"


@dataclass(frozen=True, slots=True)
class Proof:
    """The verdict on one VIB."""

    level: AcceptanceLevel
    """What is proved: the claimed level, or community."""
    claimed: AcceptanceLevel
    signer: str = ""
    """Subject of the signer's certificate, if it is proved."""
    reason: str = ""
    """Why the claim is not proved, a sentence without its subject; "" if it is."""
    note: str = ""
    """What else is worth knowing: that a community VIB is not checked, that the hash is SHA-1."""

    @property
    def proven(self) -> bool:
        """Whether the VIB is what it claims to be."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class _Certificate:
    x509: x509.Certificate
    issuer: bytes
    serial: bytes
    subject: bytes
    fingerprint: str

    @classmethod
    def read(cls, der: bytes) -> "_Certificate":
        loaded = load_certificate(der, "a certificate in the signature")
        issuer, serial, subject = names_of_certificate(der)
        return cls(loaded, issuer, serial, subject, hashlib.sha256(der).hexdigest().upper())


def prove(vib: Vib, anchors: Anchors = VMWARE) -> Proof:
    """Whether the level that a VIB claims is proved; never raises for what is wrong with the VIB."""
    claimed = vib.package.acceptance_level
    if claimed is AcceptanceLevel.COMMUNITY:
        return Proof(claimed, claimed, note="community level: the signature is not checked")
    try:
        with warnings.catch_warnings():
            # The library warns of odd names and serial numbers; other people's certificates have them.
            warnings.simplefilter("ignore")
            signer, note = _prove(vib, claimed, anchors)
    except ImageError as error:
        return Proof(AcceptanceLevel.COMMUNITY, claimed, reason=str(error))
    return Proof(claimed, claimed, signer, note=note)


def _prove(vib: Vib, claimed: AcceptanceLevel, anchors: Anchors) -> tuple[str, str]:
    """(signer, note). Raises ImageError with the reason."""
    if not vib.exact:
        raise SignatureError("the signed bytes of its descriptor are not in the image database")
    descriptor, signature = vib.descriptor, vib.signature
    if not signature.strip():
        raise SignatureError("it is not signed")
    signed = parse_signature(signature)
    if not signed.signers:
        raise SignatureError("its signature has no signer")
    if signed.content is not None and signed.content != descriptor:
        raise SignatureError("its signature is of something else, which it carries in itself")
    if difference := told_otherwise(vib):
        raise SignatureError(difference)
    embedded, unreadable = _read_all(signed.certificates)
    pool = embedded + _read_all(anchors.certificates)[0]
    failures = []
    for signer in signed.signers:  # one that proves the level is enough: taking the others away costs nothing
        try:
            return _prove_signer(signer, signed, descriptor, pool, claimed, anchors, unreadable)
        except SignatureError as error:
            failures.append(str(error))
    raise SignatureError("; ".join(dict.fromkeys(failures)))


def _prove_signer(
    signer: SignerInfo,
    signed: SignedData,
    descriptor: bytes,
    pool: tuple[_Certificate, ...],
    claimed: AcceptanceLevel,
    anchors: Anchors,
    unreadable: str,
) -> tuple[str, str]:
    if signer.digest not in _HASHES:
        raise SignatureError(f"its signature uses a hash that is not believed ({signer.digest})")
    name, algorithm = _HASHES[signer.digest]
    message = descriptor
    if signer.attributes:
        if signer.content_type != signed.content_type:
            raise SignatureError("its signature contradicts itself about what was signed")
        if hashlib.new(algorithm.name, descriptor).digest() != signer.message_digest:
            raise SignatureError("its descriptor is not the one that was signed")
        message = signer.attributes
    own = _find_signer(signer, pool)
    if own is None:
        raise SignatureError(
            f"the certificate of its signer is not in the signature{unreadable}; "
            "supply it with --anchor, or in the site's trust folder"
        )
    if not _verified(own.x509, signer, message, algorithm):
        raise SignatureError("its signature is broken: the signer's key does not fit it")
    _check_chain(own, pool, claimed, anchors)
    subject = _plain(own.x509)
    return subject, "" if name == "SHA-256" else f"the signature uses {name}"


def told_otherwise(vib: Vib) -> str:
    """Where a VIB's ``package`` is not what its descriptor says, as a depot's metadata may lie; "" if it is.

    Everybody works with the package, and the descriptor is what was signed. Raises ImageError.
    """
    written, told = parse_descriptor(vib.descriptor).package, vib.package
    for field in ("id", "acceptance_level", "overlay", "payloads", "files"):
        if getattr(written, field) != getattr(told, field):
            return f"its depot says something else of it than its descriptor ({field.replace('_', ' ')})"
    return ""


def _read_all(encoded: tuple[bytes, ...]) -> tuple[tuple[_Certificate, ...], str]:
    """The readable ones; what is wrong with the others."""
    found, unreadable = {}, ""
    for der in encoded:
        try:
            certificate = _Certificate.read(der)
        except (SignatureError, FormatError) as error:
            unreadable = f" ({error})"
        else:
            found[certificate.fingerprint] = certificate
    return tuple(found.values()), unreadable


def _find_signer(signer: SignerInfo, pool: tuple[_Certificate, ...]) -> _Certificate | None:
    for one in pool:
        if signer.issuer:
            if (one.issuer, one.serial) == (signer.issuer, signer.serial):
                return one
        elif (key := _extension(one.x509, x509.SubjectKeyIdentifier)) and key.digest == signer.key_id:
            return one
    return None


def _verified(
    certificate: x509.Certificate, signer: SignerInfo, message: bytes, algorithm: hashes.HashAlgorithm
) -> bool:
    try:
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signer.signature, message, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and signer.algorithm == _PSS:
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            key.verify(signer.signature, message, scheme, algorithm)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signer.signature, message, padding.PKCS1v15(), algorithm)
        else:
            raise SignatureError("its signer's key is neither RSA nor of an elliptic curve")
    except LIBRARY_ERRORS:
        return False
    return True


def _check_chain(
    signer: _Certificate, pool: tuple[_Certificate, ...], claimed: AcceptanceLevel, anchors: Anchors
) -> None:
    """Raises SignatureError unless one way from the signer up leads to an anchor of the claimed level."""
    elsewhere: list[str] = []
    revoked: list[str] = []
    for chain in _chains((signer,), pool, anchors, set()):
        if reason := _revoked(chain, anchors):
            revoked.append(reason)
            continue
        for anchor in anchors.of(chain[-1].fingerprint):
            reason = _refused(signer.x509, claimed, anchor)
            if not reason:
                return
            elsewhere.append(reason)
    if revoked or elsewhere:
        raise SignatureError((revoked or elsewhere)[0])
    top = _top(signer, pool)
    raise SignatureError(
        f"its signature ({_plain(signer.x509)}) does not lead to a certificate that is believed: the last one "
        f"known is {_plain(top.x509)}, issued by {_plain(top.x509, issuer=True)}. If you have the issuer's "
        "certificate, put it into the site's trust folder or name it with --anchor"
    )


def _chains(
    chain: tuple[_Certificate, ...], pool: tuple[_Certificate, ...], anchors: Anchors, seen: set[str]
) -> Iterator[tuple[_Certificate, ...]]:
    """Every chain from the signer to an anchor; each certificate is looked at once, so it ends."""
    last = chain[-1]
    seen.add(last.fingerprint)
    if anchors.of(last.fingerprint):
        yield chain
    if len(chain) >= _LONGEST_CHAIN:
        return
    for issuer in pool:
        if issuer.fingerprint in seen or issuer.subject != last.issuer:
            continue
        if _may_issue(issuer, len(chain) - 1, anchors) and signed_by(last.x509, issuer.x509):
            yield from _chains((*chain, issuer), pool, anchors, seen)


def _may_issue(certificate: _Certificate, below: int, anchors: Anchors) -> bool:
    """Whether it may sign certificates (RFC 5280 section 4.2.1.9): a partner must not make its own signers.

    ``below``: how many authorities are between it and the signer.
    """
    try:
        basic = _extension(certificate.x509, x509.BasicConstraints)
        usage = _extension(certificate.x509, x509.KeyUsage)
    except SignatureError:
        return False
    if usage is not None and not usage.key_cert_sign:
        return False
    if basic is None:  # authorities of the nineties; pinned ones are what we know them to be
        return usage is not None or bool(anchors.of(certificate.fingerprint))
    return basic.ca and (basic.path_length is None or below <= basic.path_length)


def _refused(signer: x509.Certificate, claimed: AcceptanceLevel, anchor: Anchor) -> str:
    """Why this anchor does not vouch for the level; "" if it does."""
    if claimed not in anchor.levels:
        levels = " and ".join(str(level) for level in anchor.levels)
        return f"its signature leads to {anchor.name}, which vouches for {levels}, not for {claimed}"
    if len(anchor.levels) > 1 and (claimed is AcceptanceLevel.ACCEPTED) != _signs_accepted(signer):
        what = "an acceptance signer of VMware's" if _signs_accepted(signer) else "a partner"
        return f"its signer is {what} ({_plain(signer)}), who does not vouch for {claimed}"
    return ""


def _signs_accepted(signer: x509.Certificate) -> bool:
    def has(oid: x509.ObjectIdentifier, value: str) -> bool:
        return any(attribute.value == value for attribute in signer.subject.get_attributes_for_oid(oid))

    return has(NameOID.ORGANIZATION_NAME, "VMware Inc") and has(
        NameOID.ORGANIZATIONAL_UNIT_NAME, "Acceptance Signing"
    )


def _revoked(chain: tuple[_Certificate, ...], anchors: Anchors) -> str:
    """Which certificate of the chain was revoked by its issuer; "" if none was. Dates of lists are ignored."""
    for below, issuer in pairwise(chain):
        for crl in anchors.revoked:
            try:
                if crl.issuer != issuer.x509.subject:
                    continue
                genuine = signed_by(crl, issuer.x509)
                found = crl.get_revoked_certificate_by_serial_number(below.x509.serial_number)
            except LIBRARY_ERRORS:
                genuine, found = False, None
            if not genuine:
                return f"the revocation list of {_plain(issuer.x509)} is not signed by it; get the right one"
            if found is not None:
                return f"the certificate {_plain(below.x509)} of its signature was revoked by its issuer"
    return ""


def _top(signer: _Certificate, pool: tuple[_Certificate, ...]) -> _Certificate:
    """The last certificate above the signer that is known, for the message."""
    top = signer
    for _ in range(_LONGEST_CHAIN):
        above = next((one for one in pool if one.subject == top.issuer and one is not top), None)
        if above is None or top.subject == top.issuer:
            break
        top = above
    return top


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except LIBRARY_ERRORS:
        raise SignatureError("a certificate of its signature has unreadable extensions") from None


def _plain(certificate: x509.Certificate, *, issuer: bool = False) -> str:
    """Subject or issuer, readable and without anything a terminal would obey."""
    try:
        text = (certificate.issuer if issuer else certificate.subject).rfc4514_string()
    except LIBRARY_ERRORS:
        return "an unreadable name"
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
