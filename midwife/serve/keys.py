"""The service's own keys, made once in the data directory: the HMAC secret of the tokens, the SSH key pair.

Losing them costs little: tokens on their way become invalid, and hosts that were booted before no longer know
the service's public key until their next boot.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

__all__ = ["KeyFileError", "ServiceKeys"]

_SECRET_SIZE = 32  # bytes, as many as SHA-256 gives


class KeyFileError(ValueError):
    """A key file is damaged; the text says which, and what deleting it costs."""


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """The secrets of one service."""

    secret: bytes
    ssh_key: Path
    """Private key file, OpenSSH format, mode 0600."""
    public_key: str
    """``ssh-ed25519 AAAA… midwife``."""

    def __repr__(self) -> str:
        return f"ServiceKeys({self.ssh_key})"

    @classmethod
    def open(cls, data_dir: Path) -> "ServiceKeys":
        """Read them, or make them at the first start. Raises OSError, and KeyFileError for a damaged key."""
        folder = data_dir / "keys"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = folder / "token.secret"
        ssh_key = folder / "id_ed25519"
        if not secret.exists():
            _write(secret, secrets.token_bytes(_SECRET_SIZE))
        if not ssh_key.exists():
            _write(
                ssh_key,
                Ed25519PrivateKey.generate().private_bytes(
                    Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
                ),
            )
        return cls(_secret(secret), ssh_key, _public_half(ssh_key))


def _secret(path: Path) -> bytes:
    secret = path.read_bytes()
    if len(secret) < _SECRET_SIZE:  # an empty file would make tokens that everybody can make
        raise KeyFileError(
            f"{path} has {len(secret)} bytes instead of {_SECRET_SIZE}; delete it, and a new one is made "
            "(hosts that are loading now must boot again)"
        )
    return secret


def _public_half(path: Path) -> str:
    try:
        private = load_ssh_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Its own words, not the error's: what could not be parsed may be part of the key.
        raise KeyFileError(
            f"{path} is no SSH private key without passphrase ({type(error).__name__}); restore it, or delete "
            "it, and a new one is made (hosts get the new public key at their next boot)"
        ) from None
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{public} midwife"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # else a power cut may leave the name without the file
    finally:
        os.close(folder)
