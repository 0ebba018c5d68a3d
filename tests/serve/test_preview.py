"""``render`` and ``explain`` tell the truth: the same bytes as the live service, but for the placeholder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from midwife.core.facts import Facts, Firmware
from midwife.serve.preview import Preview
from midwife.serve.render import SAMPLE_ATTEMPT, SAMPLE_TOKEN, RenderError
from midwife.wire.bootcmd import find_token
from midwife.wire.identity import dashed_mac

from .deciding import MACS, World, make_site

STRANGER = "02:00:00:00:00:99"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(make_site(tmp_path, proxydhcp={"enabled": "true"}))
    yield world
    world.close()


@pytest.mark.parametrize(
    ("kind", "proto"), [("ipxe", "http"), ("pxelinux", "tftp"), ("boot.cfg", "http"), ("boot.cfg", "tftp")]
)
@pytest.mark.parametrize("mac", [*MACS.values(), STRANGER])
def test_the_preview_is_what_the_host_gets(world: World, mac: str, kind: str, proto: str) -> None:
    preview = Preview(world.site, "ssh-ed25519 AAAA m")
    facts = Facts(macs=(mac,))
    dashed = dashed_mac(mac)
    name = {"ipxe": "ipxe", "pxelinux": f"pxelinux.cfg/{dashed}", "boot.cfg": f"{dashed}/boot.cfg"}[kind]
    if kind == "boot.cfg" and mac == MACS["esx-01"]:
        with pytest.raises(RenderError):
            preview.render(facts, kind, proto)
        assert not hasattr(world.ask(name, proto), "body")
        return
    live = world.text(name, proto, mac=mac) if kind == "ipxe" else world.text(name, proto)
    host = world.resolver.decide(facts).name
    trip = world.attempts.current(host)
    if trip:
        token = find_token(live)
        live = live.replace(token, SAMPLE_TOKEN) if token else live
        live = live.replace(trip.id, SAMPLE_ATTEMPT)
    assert preview.render(facts, kind, proto).decode() == live


def test_a_preview_begins_nothing(world: World) -> None:
    preview = Preview(world.site, "")
    for kind in ("ipxe", "pxelinux"):
        preview.render(Facts(macs=(MACS["esx-01"],)), kind, "http")
    assert world.store.hosts() == []
    assert list(world.store.events()) == []


def test_dhcp_as_every_firmware_sees_it(world: World) -> None:
    preview = Preview(world.site, "")
    paths = {path.firmware: path for path in preview.paths(Facts(macs=(MACS["esx-02"],)))}
    assert set(paths) == set(Firmware) - {Firmware.UNKNOWN}
    assert paths[Firmware.EFI].loads == "8.0U3/mboot.efi"
    assert all(path.offer and not path.silence for path in paths.values())
    for mac, why in ((STRANGER, "no host file has its MAC address"), (MACS["disk-03"], "from its own disk")):
        for path in preview.paths(Facts(macs=(mac,))):
            assert path.offer == ()
            assert why in path.silence


def test_a_stranger_without_an_image_is_let_in_and_still_gets_silence(tmp_path: Path) -> None:
    """proxydhcp.answer: all lets strangers in for what a rule gives them; for nothing they are offered nothing."""
    preview = Preview(make_site(tmp_path, proxydhcp={"answer": "all"}), "")
    paths = list(preview.paths(Facts(macs=(STRANGER,))))
    assert paths
    assert [path.offer for path in paths] == [()] * len(paths)
    assert {path.silence for path in paths} == {"no image: nothing to boot"}


def test_the_names_that_a_machine_will_ask_for(world: World) -> None:
    preview = Preview(world.site, "")
    names = preview.names(Facts(macs=(MACS["esx-01"],)))
    assert names[:2] == ("pxelinux.cfg/01-52-54-00-00-00-01", "01-52-54-00-00-00-01/boot.cfg")
    assert preview.names(Facts(uuid="x")) == ()
