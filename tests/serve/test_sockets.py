"""Binding the ports of a service: what is bound, and how every problem is told at once."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from midwife.serve.sockets import PortError, open_sockets
from midwife.site.load import load
from midwife.site.model import Site

from .conftest import make_site


def site_with(tmp_path: Path, **main: Any) -> Site:
    return load(make_site(tmp_path / "site", **main)).site


def test_everything_the_site_names_is_bound_and_listens(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    control = tmp_path / "control.sock"
    sockets = open_sockets(site, control)
    try:
        assert [len(group) for group in (sockets.tftp, sockets.http, sockets.callback_tcp)] == [1, 1, 1]
        assert len(sockets.callback_udp) == 1
        assert sockets.dhcp == sockets.dhcp_4011 == []
        assert stat.S_IMODE(control.stat().st_mode) == 0o600, "only our own user may ask the control process"
        with socket.create_connection(("127.0.0.1", site.main.http.listen[0].port), 5):
            pass
        assert not any(one.get_inheritable() for one in sockets.all()), "children get them by name only"
    finally:
        sockets.close()


def test_a_socket_file_of_a_former_service_is_no_obstacle(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    open_sockets(site, tmp_path / "control.sock").close()
    open_sockets(site, tmp_path / "control.sock").close()


def test_a_star_means_both_protocols(tmp_path: Path) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    site = site_with(tmp_path)
    port = site.main.http.listen[0].port
    both = load(make_site(tmp_path / "both", http={"listen": f"*:{port}"})).site
    sockets = open_sockets(both, tmp_path / "control.sock")
    try:
        assert {one.family for one in sockets.http} == {socket.AF_INET, socket.AF_INET6}
        assert {one.getsockname()[1] for one in sockets.http} == {port}
    finally:
        sockets.close()


def test_a_star_on_a_machine_without_ipv6_means_ipv4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_with(tmp_path)
    port = site.main.http.listen[0].port
    both = load(make_site(tmp_path / "both", http={"listen": f"*:{port}"})).site
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    with monkeypatch.context() as patch:
        patch.setattr("midwife.serve.sockets.socket.socket", without_ipv6)
        sockets = open_sockets(both, tmp_path / "control.sock")
    assert [one.family for one in sockets.http] == [socket.AF_INET]
    sockets.close()


def test_all_problems_are_one_error_and_nothing_stays_bound(tmp_path: Path) -> None:
    site = site_with(tmp_path, http={"listen": ["192.0.2.77:8080", "[2001:db8::77]:8080"]})
    deep = tmp_path / ("d" * 120) / "control.sock"
    taken = ("127.0.0.1", site.main.callback.listen[0].port)
    with socket.create_server(taken), pytest.raises(PortError) as caught:
        open_sockets(site, deep)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "the path of the control socket may have 107 bytes" in lines[0]
    assert "HTTP: TCP port 8080 on 192.0.2.77: this machine does not have that address" in lines[1]
    assert "2001:db8::77" in lines[2]
    assert "is taken by another program" in lines[3]
    tftp = site.main.tftp.listen[0].port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", tftp))


@pytest.mark.parametrize("obstacle", ["directory", "nowhere"])
def test_a_control_socket_that_cannot_be_made(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / obstacle / "control.sock"
    if obstacle == "directory":
        path.mkdir(parents=True)
    with pytest.raises(PortError, match=r"control\.sock: .*; choose another server\.data"):
        open_sockets(site_with(tmp_path), path)
