"""Whose signatures are believed: pinned anchors for each acceptance level, certificates and revocation lists.

VMware's anchors are known by fingerprint, so that no certificate of theirs has to be shipped. Signers below
"VMware Root CA" bring their own certificate but may leave the root's out; then somebody has to supply that file,
and the fingerprint tells whether it is the right one. Knows no VIB.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from midwife.images.errors import SignatureError
from midwife.images.objects.acceptance import AcceptanceLevel

__all__ = ["LIBRARY_ERRORS", "VMWARE", "Anchor", "Anchors", "load_certificate", "site_anchors"]

LIBRARY_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the certificate library raises on odd bytes; its errors have no base of their own."""

_MAX_FILE = 1 << 20  # bytes; the certificates of all public authorities together have 200 KB
_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".cert", ".crl"})
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A certificate that is believed by itself."""

    fingerprint: str
    """SHA-256 of the certificate (DER), 64 upper-case hexadecimal digits."""
    name: str
    """For people."""
    levels: tuple[AcceptanceLevel, ...]
    """What it vouches for. Where both accepted and partner are here, the signer's subject decides."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """What ``prove`` believes. Certificates that are no anchors only fill gaps in a chain."""

    pinned: tuple[Anchor, ...]
    certificates: tuple[bytes, ...] = ()
    """As DER."""
    revoked: tuple[x509.CertificateRevocationList, ...] = ()

    def of(self, fingerprint: str) -> tuple[Anchor, ...]:
        """The anchors with this fingerprint; none for most certificates."""
        return tuple(anchor for anchor in self.pinned if anchor.fingerprint == fingerprint)

    def with_file(self, path: Path, level: AcceptanceLevel | None = None) -> "Anchors":
        """These, and the certificates and revocation lists of a file (PEM, several of them too, or DER).

        With ``level`` its self-signed certificates (or its only one) become anchors of that level. Without,
        they may fill gaps in chains, and each self-signed one must be pinned already: nobody becomes an anchor
        by lying in a folder. Raises SignatureError, naming the file.
        """
        certificates, revoked = _read(path)
        pinned = list(self.pinned)
        for der in certificates:
            fingerprint = hashlib.sha256(der).hexdigest().upper()
            with _telling(str(path)):
                certificate = x509.load_der_x509_certificate(der)
                own = certificate.subject == certificate.issuer
                name = certificate.subject.rfc4514_string()
            if level is not None and (own or len(certificates) == 1):
                pinned.append(Anchor(fingerprint, name, (level,)))
            elif own and not self.of(fingerprint):
                raise SignatureError(
                    f"{path}: this certificate is not one of VMware's that midwife knows (SHA-256 {fingerprint}); "
                    "if you trust it, say for which level: trust/partner/FILE.pem, or --anchor FILE.pem=partner"
                )
        return replace(
            self,
            pinned=tuple(pinned),
            certificates=(*self.certificates, *certificates),
            revoked=(*self.revoked, *revoked),
        )


VMWARE = Anchors(
    (
        Anchor(
            "D484739DDD38E1B38117CEC209B7ED125F61933052FE1F8A42FBB95D38017187",
            "O=VMware, Inc. (2008 to 2019)",
            (AcceptanceLevel.CERTIFIED,),
        ),
        Anchor(
            "321690A8E06810B184032F073C305A082112BDAD5870EF2E8953E01BE956D710",
            "CN=VMware Certified VIB Signing (2017 to 2037)",
            (AcceptanceLevel.CERTIFIED,),
        ),
        Anchor(
            "6E6EFBC366032071BB4340D998A453F53E41429E141624CB78277EFDF3B18B2E",
            "CN=VMware Root CA (2008 to 2038)",
            (AcceptanceLevel.ACCEPTED, AcceptanceLevel.PARTNER),
        ),
    )
)
"""The anchors of ESXi 5.x to 9.x, by fingerprint."""


def site_anchors(site: Path | None, base: Anchors = VMWARE) -> Anchors:
    """VMware's, and what lies in the site's ``trust`` folder; a site without one has VMware's alone.

    ``trust/*.pem``: certificates that fill gaps (VMware's root, intermediates) and revocation lists (``.crl``).
    ``trust/<level>/*.pem``: anchors of that level. Raises SignatureError, naming the file.
    """
    anchors = base
    if site is None:
        return anchors
    for path in _files(site / "trust"):
        anchors = anchors.with_file(path)
    for level in AcceptanceLevel:
        for path in _files(site / "trust" / str(level)):
            if level is AcceptanceLevel.COMMUNITY:
                raise SignatureError(f"{path}: community VIBs are not signed; put it into trust/partner")
            anchors = anchors.with_file(path, level)
    return anchors


def load_certificate(der: bytes, what: str) -> x509.Certificate:
    """Raises SignatureError, naming ``what``."""
    with _telling(what):
        return x509.load_der_x509_certificate(der)


def _files(directory: Path) -> Iterable[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SignatureError(f"{directory} cannot be read: {error.strerror}") from None


def _read(path: Path) -> tuple[list[bytes], list[x509.CertificateRevocationList]]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise SignatureError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise SignatureError(f"{path} is larger than {_MAX_FILE >> 20} MiB: not a certificate")
    certificates: list[bytes] = []
    revoked: list[x509.CertificateRevocationList] = []
    blocks = [(match[1].decode(), match[0]) for match in _PEM.finditer(data)]
    if not blocks:
        blocks = [("DER CRL" if path.suffix.lower() == ".crl" else "DER", data)]
    for kind, block in blocks:
        with _telling(str(path)):
            if kind == "X509 CRL":
                revoked.append(x509.load_pem_x509_crl(block))
            elif kind == "DER CRL":
                revoked.append(x509.load_der_x509_crl(block))
            elif kind == "DER":
                certificates.append(x509.load_der_x509_certificate(block).public_bytes(Encoding.DER))
            elif "CERTIFICATE" in kind:
                certificates.append(x509.load_pem_x509_certificate(block).public_bytes(Encoding.DER))
    if not certificates and not revoked:
        raise SignatureError(f"{path} holds no certificate and no revocation list")
    return certificates, revoked


@contextmanager
def _telling(what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # The library warns of old habits (serial number 0); certificates of 2008 have them.
            warnings.simplefilter("ignore")
            yield
    except LIBRARY_ERRORS as error:
        raise SignatureError(f"{what} is not a readable certificate or revocation list: {error}") from None
