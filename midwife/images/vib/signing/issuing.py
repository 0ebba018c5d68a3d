"""Whether a certificate or a revocation list was signed by the key of a certificate; SHA-1 counts, MD5 does not.

The library's own check refuses SHA-1, with which certificates were signed until about 2015, those of the partners
of ESXi 5 among them. Nobody can make a second certificate to a signature that is there (that takes more than the
collisions known for SHA-1), and ESXi believes them. Knows no chain and no level.
"""

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from midwife.images.vib.signing.trust import LIBRARY_ERRORS

__all__ = ["signed_by"]

_BELIEVED = (hashes.SHA1, hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512)


def signed_by(what: x509.Certificate | x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Only the signature is looked at; names are the caller's. Any bytes in them give an answer."""
    data = what.tbs_certificate_bytes if isinstance(what, x509.Certificate) else what.tbs_certlist_bytes
    try:
        algorithm, how = what.signature_hash_algorithm, what.signature_algorithm_parameters
        key = issuer.public_key()
        if not isinstance(algorithm, _BELIEVED):
            return False
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(how, ec.ECDSA):
            key.verify(what.signature, data, how)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(how, padding.PKCS1v15 | padding.PSS):
            key.verify(what.signature, data, how, algorithm)
        else:
            return False
    except LIBRARY_ERRORS:
        return False
    return True
