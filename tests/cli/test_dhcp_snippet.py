"""``midwife dhcp-snippet``: the site's own address and ports, in each server's language (the texts themselves are
proved in tests/core/test_dhcpsnippet.py)."""

from pathlib import Path

import pytest

from .sites import MACS, midwife, write_site

KINDS = ("isc", "kea", "dnsmasq", "windows", "mikrotik", "unifi")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_site(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_server_is_told_where_midwife_is(site: Path, kind: str) -> None:
    result = midwife("dhcp-snippet", kind, "--site", site)
    assert result.exit_code == 0, result.output
    assert "192.0.2.2" in result.stdout
    assert "pxelinux.0" in result.stdout
    assert result.stderr == ""


def test_loaders_can_be_chosen(site: Path) -> None:
    words = ("dhcp-snippet", "dnsmasq", "--bios", "undionly.kpxe", "--uefi", "snponly.efi", "--site", site)
    said = [line for line in midwife(*words).stdout.splitlines() if not line.startswith("#")]
    assert any("undionly.kpxe" in line for line in said)
    assert any("snponly.efi" in line for line in said)
    assert not any("mboot.efi" in line or "pxelinux.0" in line for line in said)


def test_only_the_site_s_hosts(site: Path) -> None:
    assert MACS["esx-01"] in midwife("dhcp-snippet", "isc", "--hosts", "--site", site).stdout
    assert MACS["esx-01"] not in midwife("dhcp-snippet", "isc", "--site", site).stdout


def test_an_unknown_server(site: Path) -> None:
    result = midwife("dhcp-snippet", "bootp", "--site", site)
    assert result.exit_code == 2
    assert all(kind in result.stderr for kind in KINDS)
