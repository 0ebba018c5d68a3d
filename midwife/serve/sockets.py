"""Binds every port of the service in one place, so that all port problems are told at once, each with its mend.

The supervisor binds and the processes inherit: a process that is restarted finds its port still bound, and only
the supervisor needs the right to bind low ports.
"""

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from midwife.site.model import Endpoint, Site

__all__ = ["PortError", "Sockets", "open_sockets"]

_SUN_PATH = 107  # bytes, sockaddr_un on Linux


class PortError(Exception):
    """One or more sockets cannot be bound; one line each: which, why, what to do."""


@dataclass(slots=True)
class Sockets:
    """Everything the service listens on."""

    control: socket.socket
    tftp: list[socket.socket] = field(default_factory=list)
    http: list[socket.socket] = field(default_factory=list)
    callback_tcp: list[socket.socket] = field(default_factory=list)
    callback_udp: list[socket.socket] = field(default_factory=list)
    dhcp: list[socket.socket] = field(default_factory=list)
    dhcp_4011: list[socket.socket] = field(default_factory=list)

    def all(self) -> list[socket.socket]:
        """Every socket."""
        groups = (self.tftp, self.http, self.callback_tcp, self.callback_udp, self.dhcp, self.dhcp_4011)
        return [self.control, *(one for group in groups for one in group)]

    def close(self) -> None:
        """Close them all."""
        for one in self.all():
            one.close()


def open_sockets(site: Site, control_path: Path) -> Sockets:
    """Bind what the site asks for. Raises PortError with every problem."""
    from midwife.serve import proxydhcp

    problems: list[str] = []
    main = site.main
    sockets = Sockets(control=_control(control_path, problems))
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    sockets.tftp = list(_bind_all("TFTP", main.tftp.listen, datagram, problems))
    sockets.http = list(_bind_all("HTTP", main.http.listen, stream, problems))
    sockets.callback_tcp = list(_bind_all("callback", main.callback.listen, stream, problems))
    sockets.callback_udp = list(_bind_all("callback", main.callback.listen, datagram, problems))
    if main.proxydhcp.enabled:
        try:
            sockets.dhcp, sockets.dhcp_4011 = proxydhcp.open_sockets(
                main.proxydhcp.interfaces, main.server.address
            )
        except proxydhcp.ProxyDhcpError as error:
            problems.append(str(error))
    if problems:
        sockets.close()
        raise PortError("\n".join(problems))
    return sockets


def _control(path: Path, problems: list[str]) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if len(os.fsencode(path)) > _SUN_PATH:
        problems.append(
            f"{path}: the path of the control socket may have {_SUN_PATH} bytes; "
            "set server.data in midwife.yaml to a shorter one"
        )
        return listener
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)  # a former service's; the data directory's lock says that it is gone
        listener.bind(str(path))
        listener.listen(16)
    except OSError as error:
        problems.append(f"{path}: {error.strerror}; choose another server.data in midwife.yaml")
    finally:
        os.umask(before)
    return listener


def _bind_all(
    what: str, endpoints: Iterable[Endpoint], kind: socket.SocketKind, problems: list[str]
) -> Iterable[socket.socket]:
    for endpoint in endpoints:
        for family, host in _hosts(endpoint):
            try:
                yield _bind(family, kind, host, endpoint.port)
            except OSError as error:
                if endpoint.host == "*" and error.errno == errno.EAFNOSUPPORT:
                    continue  # "*" means whatever this machine has; one without IPv6 is fine
                problems.append(_explain(what, endpoint, kind, error))
                break


def _bind(family: socket.AddressFamily, kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    one = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, port))
        if kind == socket.SOCK_STREAM:
            one.listen(1024)
    except OSError:
        one.close()
        raise
    return one


def _hosts(endpoint: Endpoint) -> list[tuple[socket.AddressFamily, str]]:
    if endpoint.host == "*":
        both = [(socket.AF_INET, "0.0.0.0")]
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            both.append((socket.AF_INET6, "::"))
        return both
    return [(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET, endpoint.host)]


def _explain(what: str, endpoint: Endpoint, kind: socket.SocketKind, error: OSError) -> str:
    transport = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    name = f"{what}: {transport} port {endpoint.port} on {endpoint.host}"
    if error.errno == errno.EADDRINUSE:
        flag = "t" if transport == "TCP" else "u"
        return (
            f"{name} is taken by another program; find it with "
            f"'ss -l{flag}np sport = :{endpoint.port}', stop it, or change "
            f"{what.lower()}.listen in midwife.yaml"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{name}: no permission for ports below 1024; run as root, under the systemd unit, or give "
            f"the interpreter CAP_NET_BIND_SERVICE, or change {what.lower()}.listen in midwife.yaml"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{name}: this machine does not have that address; change {what.lower()}.listen in midwife.yaml"
        )
    return f"{name}: {error.strerror}"
