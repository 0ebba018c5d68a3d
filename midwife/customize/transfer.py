"""Puts a file on a host: whole or not at all. It is written under a temporary name beside its place, its
sha256 is computed by the host, and only then it is renamed. SFTP where the server has it, else ``cat``.
"""

import hashlib
import io
import posixpath
import re
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import BinaryIO

import paramiko

from midwife.customize.errors import PermanentError, StepError
from midwife.customize.ssh import Connection

__all__ = ["present", "put", "source_of"]

_CHUNK = 32768
_MISSING = 127
"""Exit status of a POSIX shell for a command that does not exist."""


def source_of(data: bytes) -> Callable[[], BinaryIO]:
    """Bytes as something ``put`` can open."""
    return lambda: io.BytesIO(data)


def present(connection: Connection, to: str, *, sha256: str, mode: int, timeout: float) -> bool:
    """Whether the host has exactly this file with exactly this mode."""
    path = shlex.quote(to)
    found = connection.run(f"test -f {path} && stat -c %a {path}", timeout=timeout, mask=False)
    if found.rc != 0 or found.stdout.strip() != f"{mode:o}":
        return False
    return _digest(connection, to, timeout) == sha256


def put(
    connection: Connection,
    source: Callable[[], AbstractContextManager[BinaryIO]],
    to: str,
    *,
    sha256: str,
    mode: int,
    timeout: float,
) -> str:
    """Write the file ``to`` (absolute); missing directories are made. Returns a line for people.

    Raises StepError (disk full, no permission, the host received something else), PermanentError (``source``
    is no longer what ``sha256`` says), ConnectionLost, StepTimeout, Cancelled.
    """
    folder, name = posixpath.split(to)
    # One run per host at a time: the same name each time leaves no litter after a crash.
    temporary = posixpath.join(folder, f".{name[:200]}.midwife")
    made = connection.run(
        f"test ! -d {shlex.quote(to)} && mkdir -p {shlex.quote(folder)} && rm -f {shlex.quote(temporary)}",
        timeout=timeout,
    )
    if made.rc:
        raise StepError(f"cannot write {to}: {made.text.strip() or 'it is a directory'}", made.text)
    try:
        with source() as file:
            reader = _Hashing(file)
            way = _write(connection, reader, temporary, timeout)
        _compare(connection, reader, temporary, to, sha256, timeout)
        _rename(connection, temporary, to, mode, timeout)
    except (StepError, PermanentError):
        with suppress(StepError):
            if connection.alive:
                connection.run(f"rm -f {shlex.quote(temporary)}", timeout=timeout)
        raise
    return f"{to}: {reader.size} bytes by {way}, mode {mode:04o}"


def _write(connection: Connection, reader: "_Hashing", temporary: str, timeout: float) -> str:
    try:
        with connection.sftp(timeout) as client:
            _by_sftp(client, reader, temporary)
    except OSError as error:
        raise StepError(f"the host cannot write {temporary}: {error.strerror or error}") from None
    except PermanentError:  # no SFTP subsystem, or (dropbear) no sftp-server program
        reader.rewind()
        _by_cat(connection, reader, temporary, timeout)
        return "cat"
    return "SFTP"


def _by_sftp(client: paramiko.SFTPClient, reader: "_Hashing", temporary: str) -> None:
    # "x": fails on a file, or a link, that somebody on the host put there meanwhile.
    with client.open(temporary, "wx") as file:
        file.chmod(0o600)
        file.set_pipelined(True)
        while chunk := reader.read(_CHUNK):
            file.write(chunk)


def _by_cat(connection: Connection, reader: "_Hashing", temporary: str, timeout: float) -> None:
    # set -C: the same as "x" above.
    written = connection.run(
        f"umask 077; set -C; cat > {shlex.quote(temporary)}", timeout=timeout, stdin=reader
    )
    if written.rc:
        raise StepError(f"the host cannot write {temporary}: {written.text.strip()}", written.text)


def _compare(
    connection: Connection, reader: "_Hashing", temporary: str, to: str, sha256: str, timeout: float
) -> None:
    # The messages name no sha256: of a file with a secret in it, that would be something to guess against.
    if reader.hexdigest() != sha256:
        raise PermanentError(f"the file for {to} is not the one that was planned any more; start a new run")
    if _digest(connection, temporary, timeout) != sha256:
        raise StepError(f"{to} arrived damaged: the host computes another sha256 than midwife")


def _rename(connection: Connection, temporary: str, to: str, mode: int, timeout: float) -> None:
    done = connection.run(
        f"chmod {mode:04o} {shlex.quote(temporary)} && mv -f {shlex.quote(temporary)} {shlex.quote(to)}",
        timeout=timeout,
    )
    if done.rc:
        raise StepError(f"cannot write {to}: {done.text.strip()}", done.text)


def _digest(connection: Connection, path: str, timeout: float) -> str:
    """Hexadecimal sha256 of a file on the host; ESXi and busybox have sha256sum, all others openssl."""
    quoted = shlex.quote(path)
    for command in (f"sha256sum < {quoted}", f"openssl dgst -sha256 -r < {quoted}"):
        found = connection.run(command, timeout=timeout, mask=False)
        digest = re.match(r"[0-9a-f]{64}\b", found.stdout)
        if found.rc == 0 and digest:
            return digest[0]
        if found.rc != _MISSING:
            return ""
    raise PermanentError("the host has neither sha256sum nor openssl, so what it received cannot be checked")


class _Hashing:
    """Reads a file and computes its sha256 on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.rewind()

    def rewind(self) -> None:
        """Start again."""
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def hexdigest(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()

    def read(self, size: int = -1, /) -> bytes:
        """As of any file."""
        data = self._file.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data
