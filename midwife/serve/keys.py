"""The service's own keys, made once in the data directory: the HMAC secret of the tokens, the SSH key pair.

Losing them costs little: tokens on their way become invalid, and hosts that were booted before no longer know
the service's public key until their next boot.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

__all__ = ["ServiceKeys"]


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
        """Read them, or make them at the first start. Raises OSError, and ValueError for a damaged key."""
        folder = data_dir / "keys"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = folder / "token.secret"
        ssh_key = folder / "id_ed25519"
        if not secret.exists():
            _write(secret, secrets.token_bytes(32))
        if not ssh_key.exists():
            _write(
                ssh_key,
                Ed25519PrivateKey.generate().private_bytes(
                    Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
                ),
            )
        private = load_ssh_private_key(ssh_key.read_bytes(), None)
        public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return cls(secret.read_bytes(), ssh_key, f"{public} midwife")


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
