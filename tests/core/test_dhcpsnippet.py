"""The snippets, proven by the servers they are for: their own syntax checks, and a replayed boot."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midwife.core.dhcpsnippet import KINDS, SnippetError, SnippetHost, snippet
from midwife.resources import ResourceMissing, boot_dir, resource, template_dir
from midwife.wire.dhcp import DhcpPacket, build, parse
from midwife.wire.dhcpoptions import Option
from tests.serve.dhcpnet import DHCP_SERVER, MIDWIFE, Lan, client_stream, exchange, lan, running
from tests.wire.dhcpcaptures import sent_by_client

KNOWN = SnippetHost("esx-01", "52:54:00:00:00:01")
"""The machine of the captures."""
OTHER = SnippetHost("esx-02", "52-54-00-00-00-02")

EDK2 = parse(sent_by_client("ref-ovmfpxe-m1")[0].data)
EDK2_HTTP = parse(sent_by_client("ref-ovmfhttp-m1")[0].data)
IPXE_ROM = parse(sent_by_client("ref-bios-ipxe-http")[0].data)
BIOS_ROM = replace(
    IPXE_ROM, options=tuple(o for o in IPXE_ROM.options if o[0] not in (Option.USER_CLASS, Option.IPXE))
)


def program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def isc_config(text: str, folder: Path) -> Path:
    config = folder / "dhcpd.conf"
    subnet = "subnet 192.168.77.0 netmask 255.255.255.0 { range 192.168.77.100 192.168.77.200; }\n"
    config.write_text(f"ping-check false;\n{text}{subnet}")
    (folder / "leases").touch()
    return config


def kea_config(text: str, folder: Path) -> Path:
    config = json.loads(text)
    config["Dhcp4"] |= {
        "interfaces-config": {"interfaces": ["eth0"]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"subnet": "192.168.77.0/24", "pools": [{"pool": "192.168.77.100 - 192.168.77.200"}]}],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}],
    }
    path = folder / "kea.conf"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("hosts", [(), (KNOWN, OTHER)], ids=["everybody", "known hosts"])
class TestSyntax:
    def test_dnsmasq_accepts_it(self, hosts: tuple[SnippetHost, ...], tmp_path: Path) -> None:
        config = tmp_path / "midwife.conf"
        config.write_text(snippet("dnsmasq", MIDWIFE, hosts=hosts))
        done = subprocess.run((program("dnsmasq"), "--test", "-C", config), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_isc_dhcpd_accepts_it(self, hosts: tuple[SnippetHost, ...], tmp_path: Path) -> None:
        config = isc_config(snippet("isc", MIDWIFE, hosts=hosts), tmp_path)
        command = (program("dhcpd"), "-t", "-4", "-cf", config, "-lf", tmp_path / "leases")
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_kea_accepts_it(self, hosts: tuple[SnippetHost, ...], tmp_path: Path) -> None:
        config = tmp_path / "kea.conf"
        config.write_text(snippet("kea", MIDWIFE, hosts=hosts))
        env = {**os.environ, "KEA_LOCKFILE_DIR": str(tmp_path), "KEA_PIDFILE_DIR": str(tmp_path)}
        done = subprocess.run((program("kea-dhcp4"), "-t", config), capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_kea_is_json(self, hosts: tuple[SnippetHost, ...]) -> None:
        classes = json.loads(snippet("kea", MIDWIFE, hosts=hosts))["Dhcp4"]["client-classes"]
        names = [one["name"] for one in classes]
        assert names == ["midwife-ipxe", "midwife-bios", "midwife-uefi", "midwife-http"]
        assert all(("0x525400000001" in one["test"]) == bool(hosts) for one in classes)

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_names_server_loaders_and_urls(
        self, kind: str, hosts: tuple[SnippetHost, ...]
    ) -> None:
        text = snippet(kind, MIDWIFE, 69, 8080, hosts)
        for part in (MIDWIFE, "pxelinux.0", "mboot.efi", f"http://{MIDWIFE}:8080/mboot.efi", "HTTPClient"):
            assert part in text
        assert f"http://{MIDWIFE}:8080/boot.ipxe" in text
        assert "WARNING" not in text
        assert "{{" not in text
        if hosts:
            assert "esx-01" in text or kind == "mikrotik"
        if kind in ("windows", "mikrotik"):
            assert text.count("{") == text.count("}")


def test_the_way_through_ipxe_is_a_choice() -> None:
    text = snippet("dnsmasq", MIDWIFE, bios_loader="undionly.kpxe", uefi_loader="snponly.efi")
    assert re.search(r"^dhcp-boot=.*midwife-bios,undionly\.kpxe,,192\.168\.77\.3$", text, re.MULTILINE)
    assert re.search(r"^dhcp-boot=.*midwife-efi,snponly\.efi,,192\.168\.77\.3$", text, re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tftp_port_that_firmware_cannot_ask_is_warned_of(kind: str) -> None:
    assert "listens on port 6969" in snippet(kind, MIDWIFE, tftp_port=6969)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "cisco"}, "there are isc, kea"),
        ({"server": "boot.example"}, "DHCP needs an IPv4 address"),
        ({"server": "fd00::1"}, "DHCP needs an IPv4 address"),
        ({"http_port": 0}, "ports are 1 to 65535"),
        ({"uefi_loader": 'x"; include "/etc/passwd'}, "is not a boot file"),
        ({"hosts": [SnippetHost("esx 01", KNOWN.mac)]}, "is not a host name"),
        ({"hosts": [SnippetHost("esx-01", "52:54")]}, "host esx-01: '52:54' is not a MAC address"),
    ],
)
def test_what_cannot_stand_in_a_configuration_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SnippetError, match=told):
        snippet(**({"kind": "isc", "server": MIDWIFE} | changes))


def test_resources_are_found_or_named() -> None:
    assert (template_dir() / "dhcp" / "isc.j2").is_file()
    assert boot_dir().is_dir()
    with pytest.raises(ResourceMissing, match=r"templates/none\.j2 is missing"):
        resource("templates/none.j2")


# The servers themselves, given the snippet, and the DISCOVERs of real firmware


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    with lan() as net:
        yield net


@contextmanager
def serving_dnsmasq(net: Lan, text: str, folder: Path) -> Iterator[None]:
    (folder / "midwife.conf").write_text(text)
    words = (
        f"{program('dnsmasq')} --keep-in-foreground --conf-file={folder}/midwife.conf --port=0 --no-resolv "
        "--no-hosts --no-ping --leasefile-ro --pid-file= --user=root --log-facility=- --bind-interfaces "
        "--interface=eth0 --dhcp-range=192.168.77.100,192.168.77.200,1h"
    )
    with running(net.server, words.split(), ready="sockets bound"):
        yield


@contextmanager
def serving_isc(net: Lan, text: str, folder: Path) -> Iterator[None]:
    config = isc_config(text, folder)
    words = f"{program('dhcpd')} -4 -f -d -cf {config} -lf {folder}/leases --no-pid eth0"
    with running(net.server, words.split(), ready="Server starting service"):
        yield


@contextmanager
def serving_kea(net: Lan, text: str, folder: Path) -> Iterator[None]:
    config = kea_config(text, folder)
    env = {"KEA_LOCKFILE_DIR": str(folder), "KEA_PIDFILE_DIR": str(folder)}
    with running(net.server, (program("kea-dhcp4"), "-c", str(config)), ready="DHCP4_STARTED", env=env):
        yield


Serving = Callable[[Lan, str, Path], AbstractContextManager[None]]


async def offer_to(net: Lan, packet: DhcpPacket) -> DhcpPacket:
    """The server's offer; the broadcast flag is set, because a test has no address to be spoken to."""
    async with client_stream(net) as stream:
        return await exchange(
            stream,
            build(replace(packet, flags=0x8000)),
            ("255.255.255.255", 67),
            lambda p: p.server_id == DHCP_SERVER and p.xid == packet.xid,
            "the DHCP server's offer",
        )


def boot_file(offer: DhcpPacket) -> str:
    return (offer.option(Option.BOOT_FILE) or offer.file).decode().rstrip("\0")


SERVERS = pytest.mark.parametrize(
    ("kind", "serving"),
    [("dnsmasq", serving_dnsmasq), ("isc", serving_isc), ("kea", serving_kea)],
    ids=["dnsmasq", "isc", "kea"],
)


@pytest.mark.netns
@SERVERS
@pytest.mark.parametrize("hosts", [(), (KNOWN, OTHER)], ids=["everybody", "known hosts"])
async def test_each_firmware_is_offered_its_loader(
    network: Lan, tmp_path: Path, kind: str, serving: Serving, hosts: tuple[SnippetHost, ...]
) -> None:
    with serving(network, snippet(kind, MIDWIFE, hosts=hosts), tmp_path):
        bios = await offer_to(network, BIOS_ROM)
        assert (boot_file(bios), bios.siaddr) == ("pxelinux.0", MIDWIFE)
        uefi = await offer_to(network, EDK2)
        assert (boot_file(uefi), uefi.siaddr) == ("mboot.efi", MIDWIFE)
        http = await offer_to(network, EDK2_HTTP)
        assert boot_file(http) == f"http://{MIDWIFE}:8080/mboot.efi"
        assert http.option(Option.VENDOR_CLASS) == b"HTTPClient", "EDK2 ignores the offer without it"
        ipxe = await offer_to(network, IPXE_ROM)
        assert boot_file(ipxe) == f"http://{MIDWIFE}:8080/boot.ipxe"


@pytest.mark.netns
@SERVERS
async def test_a_stranger_gets_an_address_and_nothing_else(
    network: Lan, tmp_path: Path, kind: str, serving: Serving
) -> None:
    with serving(network, snippet(kind, MIDWIFE, hosts=(OTHER,)), tmp_path):
        for packet in (BIOS_ROM, EDK2, EDK2_HTTP, IPXE_ROM):
            offer = await offer_to(network, packet)
            assert offer.yiaddr.startswith("192.168.77.")
            assert boot_file(offer) == ""
            assert offer.siaddr != MIDWIFE
