"""Keys and certificates that stand in for VMware's: an anchor for each level, many of them long expired.

Made with ``cryptography``; signs with the same (openssl(1) verifies it in the tests). It knows nothing of midwife.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509.oid import NameOID

__all__ = ["LEVELS", "Identity", "Pki"]

LEVELS = ("certified", "accepted", "partner")
_SHORT = {"C": NameOID.COUNTRY_NAME, "O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
_SHORT["OU"] = NameOID.ORGANIZATIONAL_UNIT_NAME


@dataclass(frozen=True)
class Identity:
    """A key with its certificate."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, upper-case hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()


@dataclass(frozen=True)
class Pki:
    """``certified`` and ``certified_old`` sign VIBs themselves; ``root`` issues the other two signers."""

    certified: Identity
    certified_old: Identity
    """Expired in 2019."""
    root: Identity
    accepted: Identity
    """O=VMware Inc, OU=Acceptance Signing: what makes a level "accepted". Expired."""
    partner: Identity
    """Of an OEM, issued by ``partner_ca``, which ``root`` issued."""
    partner_ca: Identity
    stranger: Identity
    """Self-signed, and anchored nowhere."""

    @classmethod
    def make(cls) -> "Pki":
        """New keys; half a second or so."""
        certified = _identity({"CN": "Look-alike Certified VIB Signing"}, 2017, 2037)
        old = _identity({"O": "Look-alike, Inc."}, 2008, 2019)
        root = _identity({"C": "US", "O": "Look-alike, Inc.", "CN": "Look-alike Root CA"}, 2008, 2038)
        accepted = _identity(
            {"O": "VMware Inc", "OU": "Acceptance Signing", "CN": "Look-alike Accepted VIB Signing"},
            2010,
            2020,
            root,
            ca=False,
        )
        partner_ca = _identity({"O": "Look-alike, Inc.", "CN": "Look-alike Partner CA"}, 2010, 2030, root)
        partner = _identity(
            {"O": "Fine Adapters Ltd", "CN": "Fine Adapters VIB Signing"}, 2012, 2015, partner_ca, ca=False
        )
        stranger = _identity({"CN": "Nobody you know"}, 2020, 2040)
        return cls(certified, old, root, accepted, partner, partner_ca, stranger)

    @property
    def fingerprints(self) -> dict[str, tuple[str, ...]]:
        """Level to the SHA-256 fingerprints of its anchors."""
        root = (self.root.fingerprint,)
        certified = (self.certified.fingerprint, self.certified_old.fingerprint)
        return {"certified": certified, "accepted": root, "partner": root}

    def sign(self, descriptor: bytes, level: str, *, with_root: bool = True) -> bytes:
        """A ``sig.pkcs7``: PEM PKCS#7, detached, with signed attributes and the signer's certificate.

        ``level``: certified, certified_old, accepted, partner or stranger. ``with_root`` puts the issuers in,
        without it a reader must have the root from somewhere else.
        """
        signer: Identity = getattr(self, level)
        builder = PKCS7SignatureBuilder().set_data(descriptor)
        builder = builder.add_signer(signer.certificate, signer.key, hashes.SHA256())
        issuers = {"accepted": [self.root], "partner": [self.partner_ca, self.root]}.get(level, [])
        for issuer in issuers if with_root else issuers[:-1]:
            builder = builder.add_certificate(issuer.certificate)
        options = [PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities]
        return builder.sign(Encoding.PEM, options)


def _identity(
    names: dict[str, str], first: int, last: int, issuer: Identity | None = None, *, ca: bool = True
) -> Identity:
    key = generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(_SHORT[short], value) for short, value in names.items()])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(first, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(last, 12, 31, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity(key, certificate)
