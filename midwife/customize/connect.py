"""Connecting and logging in to a booted host: TCP, SSH key exchange, pinned host key, authentication.

A host calls back before its sshd listens, its firewall opens late and its server is restarted while it boots,
so TCP, banner and key exchange are tried again until a deadline. The socket is ours, for TCP_NODELAY and for
waits that end when the run is cancelled. Knows nothing of plans; login and pins are handed in.
"""

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from midwife.customize.cancel import Cancel
from midwife.customize.errors import LoginError, PermanentError, UnreachableError
from midwife.customize.hostkey import FAMILIES, Pins, fingerprint
from midwife.customize.masking import Masker
from midwife.customize.ssh import Connection

__all__ = ["Login", "connect"]

TRY = 10.0
"""Seconds for one TCP connection: a host whose firewall drops packets looks like one that still boots."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_TICK = 0.1
"""Seconds until a cancel is noticed."""
_DEAD_AFTER_MS = 30_000
"""A host that was switched off answers nothing; TCP alone would wait a quarter of an hour (RFC 5482)."""
# Measured: group14, group16 and group exchange cost 8 to 30 times the CPU of curve25519 per connection;
# paramiko's own first choice (mlkem768x25519) is unknown to the sshd of Debian 12.
_KEX = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom. ``pins`` None means: any host key; nothing secret may then be sent."""

    address: str
    """Numeric."""
    pins: Pins | None
    port: int = 22
    user: str = "root"
    key: Path | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """For people: ``root@192.0.2.7``, with the port where it is not 22."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != 22 else "")


def connect(login: Login, *, cancel: Cancel, masker: Masker, timeout: float) -> Connection:
    """Connect and log in, trying for up to ``timeout`` seconds while nothing (sensible) answers.

    Raises UnreachableError, HostKeyError, LoginError, Cancelled; PermanentError for a useless key file.
    """
    if login.password is not None and login.pins is None:
        raise LoginError(
            f"a password is not sent to {login.where}: its host key was not pinned by a callback"
        )
    key = _load_key(login.key)
    deadline = time.monotonic() + timeout
    pause, tries = _FIRST_PAUSE, 0
    while True:
        cancel.check()
        tries += 1
        try:
            return _attempt(login, key, cancel, masker, deadline)
        except (OSError, EOFError, paramiko.SSHException) as error:
            reason = _reason(error)
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnreachableError(
                f"no SSH login at {login.where} within {timeout:g} s ({tries} tries); last: {reason}. "
                "Is sshd enabled and started on the host, and does its firewall let midwife in?"
            )
        cancel.pause(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _attempt(
    login: Login, key: paramiko.PKey | None, cancel: Cancel, masker: Masker, deadline: float
) -> Connection:
    """One try: for each kind of host key that may be pinned, until a pinned one is shown."""
    families = login.pins.families() if login.pins else [tuple(a for family in FAMILIES for a in family)]
    seen: list[str] = []
    for algorithms in families:
        transport = _handshake(login, algorithms, cancel, deadline)
        try:
            if transport is None:
                continue
            shown = transport.get_remote_server_key()
            if login.pins is None or login.pins.allow(fingerprint(shown.asbytes())):
                _authenticate(transport, login, key, cancel)
                transport.set_keepalive(15)
                return Connection(transport, login.where, cancel, masker)
            seen.append(f"{shown.get_name()} {fingerprint(shown.asbytes())}")
            transport.close()
        except BaseException:
            if transport:
                transport.close()
            raise
    assert login.pins is not None  # noqa: S101  without pins the first handshake returned or raised
    raise login.pins.refusal(login.where, seen)


def _handshake(
    login: Login, algorithms: tuple[str, ...], cancel: Cancel, deadline: float
) -> paramiko.Transport | None:
    """Key exchange with these host key algorithms; None if the server has no such key."""
    transport = paramiko.Transport(_tcp(login, cancel, deadline))
    # paramiko writes whole tracebacks to its log for a server that is not up yet; our errors say the same.
    transport.set_log_channel("midwife.paramiko")
    logging.getLogger("midwife.paramiko").setLevel(logging.CRITICAL + 1)
    options = transport.get_security_options()
    options.kex = _first(_KEX, options.kex)
    options.ciphers = _first(_CIPHERS, options.ciphers)
    options.key_types = algorithms
    try:
        _negotiate(transport, cancel, deadline)
    except IncompatiblePeer as error:
        transport.close()
        if login.pins is None or "host key" not in str(error):
            raise PermanentError(f"{login.where} and midwife have no algorithm in common: {error}") from None
        return None
    except BaseException:
        transport.close()
        raise
    return transport


def _negotiate(transport: paramiko.Transport, cancel: Cancel, deadline: float) -> None:
    done = threading.Event()
    transport.start_client(event=done)
    limit = min(deadline, time.monotonic() + 30) + 1
    while not done.wait(_TICK) and transport.is_active() and time.monotonic() < limit:
        cancel.check()
    if done.is_set() and transport.is_active():
        return
    error = transport.get_exception()
    if isinstance(error, IncompatiblePeer):
        raise error
    # Whatever a half-booted or hostile server provokes inside paramiko means the same: no SSH there now.
    raise paramiko.SSHException(str(error) if error and str(error) else "the connection was closed")


def _tcp(login: Login, cancel: Cancel, deadline: float) -> socket.socket:
    """A connected socket. Raises OSError; TimeoutError after ``TRY`` seconds."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            login.address, login.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
    except socket.gaierror:
        raise PermanentError(f"{login.address!r} is not an IPv4 or IPv6 address") from None
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        # Without it five commands take 0.28 s instead of 0.10 s (Nagle against delayed ACKs).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            code = _connected(sock, cancel, min(deadline, time.monotonic() + TRY))
        if code:
            raise OSError(code, os.strerror(code))  # noqa: TRY301  closing belongs to this function
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(sock: socket.socket, cancel: Cancel, limit: float) -> int:
    """Waits for a connection under way; its errno, 0 for success."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while not selector.select(_TICK):
            cancel.check()
            if time.monotonic() > limit:
                return errno.ETIMEDOUT
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _authenticate(
    transport: paramiko.Transport, login: Login, key: paramiko.PKey | None, cancel: Cancel
) -> None:
    """Key first, then password; where the host offers only keyboard-interactive (ESXi), it is answered so."""
    refused: list[str] = []
    with _closing_on(cancel, transport):
        if key is not None:
            try:
                transport.auth_publickey(login.user, key)
            except paramiko.AuthenticationException as error:
                refused.append(f"key {fingerprint(key.asbytes())}: {_refusal(error)}")
        if not transport.is_authenticated() and login.password is not None and transport.is_active():
            try:
                transport.auth_password(login.user, login.password)
            except paramiko.AuthenticationException as error:
                refused.append(f"password: {_refusal(error)}")
    if not transport.is_authenticated():
        raise LoginError(
            f"{login.where} refuses the login ({'; '.join(refused) or 'no key and no password is set'}). "
            "Is midwife's public key in the host's authorized_keys, and may this user log in over SSH?"
        )


@contextlib.contextmanager
def _closing_on(cancel: Cancel, transport: paramiko.Transport) -> Iterator[None]:
    """paramiko's login waits for up to 30 s; a cancel does not."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_TICK):
            if cancel.is_set():
                transport.close()

    watcher = threading.Thread(target=watch, name="ssh-login-watch", daemon=True)
    watcher.start()
    try:
        yield
    except (paramiko.SSHException, EOFError, OSError):
        cancel.check()
        raise
    finally:
        over.set()
    cancel.check()


def _load_key(path: Path | None) -> paramiko.PKey | None:
    if path is None:
        return None
    try:
        return paramiko.PKey.from_path(path)
    except OSError as error:
        raise PermanentError(f"SSH key {path}: {error.strerror}") from None
    except (paramiko.PasswordRequiredException, TypeError):  # TypeError: how cryptography says it
        raise PermanentError(f"SSH key {path} has a passphrase; use a key without one, mode 0600") from None
    except Exception as error:  # paramiko and cryptography raise whatever a bad file provokes
        raise PermanentError(f"SSH key {path} cannot be read: {type(error).__name__}") from None


def _refusal(error: paramiko.AuthenticationException) -> str:
    if isinstance(error, paramiko.BadAuthenticationType):
        return f"not offered, the host takes {', '.join(error.allowed_types)}"
    return "refused"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "connection refused (sshd does not listen yet?)"
    return str(error) or "the connection was closed"


def _first(wanted: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """``known`` in our order: the wanted ones first, the others behind them."""
    known = tuple(known)
    return (*(w for w in wanted if w in known), *(k for k in known if k not in wanted))
