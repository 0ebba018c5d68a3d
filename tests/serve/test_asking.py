"""A machine whose image hangs on what it has not told: each way to boot asks it, or says why it cannot."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from midwife.core.facts import Facts, Firmware
from midwife.images.boot import loaders
from midwife.images.boot.manifest import read_manifest, write_manifest
from midwife.images.objects.profile import HardwareRule
from midwife.serve.netboot import dhcp_decision
from midwife.serve.preview import Preview
from midwife.site.model import Host, Items, Rule
from midwife.wire.identity import dashed_mac

from .deciding import World, make_site

MAC = "52:54:00:00:00:77"
BY_SERIAL = {"name": "by serial", "patterns": "serial=SN-1", "items": {"image": "8.0U3"}}
BY_FAMILY = {
    "name": "by family",
    "patterns": ["family=PowerEdge", "oemstring==$SPT:a,b"],
    "items": {"image": "8.0U3"},
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    hosts = [Host(name="esx-07", macs=(MAC,), boot="stateless")]
    world = World(make_site(tmp_path, hosts=hosts, rules=[BY_SERIAL], proxydhcp={"enabled": "true"}))
    (tmp_path / "loaders").mkdir()
    (tmp_path / "loaders" / "ipxe.lkrn").write_bytes(b"iPXE")
    yield world
    world.close()


def test_dhcp_sends_ipxe_first_and_mboot_once_it_is_known(world: World) -> None:
    def loads(firmware: Firmware) -> str:
        target, _ = dhcp_decision(
            world.site, world.library, world.resolver.decide(Facts(macs=(MAC,))), firmware
        )
        assert target
        return target.load(firmware)

    assert loads(Firmware.BIOS) == "undionly.kpxe"
    assert loads(Firmware.EFI) == "snponly.efi"
    assert loads(Firmware.EFI_HTTP) == "http://192.0.2.2:8080/snponly.efi"
    assert loads(Firmware.IPXE_BIOS) == loads(Firmware.IPXE_EFI) == "http://192.0.2.2:8080/boot.ipxe"
    world.text("ipxe", mac=MAC, serial="SN-1", platform="efi")
    assert loads(Firmware.EFI) == "8.0U3/mboot.efi"
    assert loads(Firmware.BIOS) == "pxelinux.0"


def test_pxelinux_loads_ipxe_to_ask(world: World) -> None:
    name = f"pxelinux.cfg/{dashed_mac(MAC)}"
    text = world.text(name, "tftp")
    assert text.endswith("LABEL ask\n  KERNEL ipxe.lkrn\n  INITRD boot.ipxe\n")
    assert "SAY midwife: its serial is not known, and it could change what it gets" in text
    assert world.kinds("esx-07") == ["asked"]
    assert world.state("esx-07") == "armed"
    assert Preview(world.site, "").render(Facts(macs=(MAC,)), "pxelinux", "tftp").decode() == text
    # >> iPXE asks from another address, as behind NAT; << ESXi
    assert "mboot.efi" in world.text("ipxe", client="192.0.2.99", mac=MAC, serial="SN-1")
    assert "mboot.c32" in world.text(name, "tftp", client="192.0.2.98"), "what it told is remembered"


def test_pxelinux_without_ipxe_says_what_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "find", lambda *_: None)
    text = world.text(f"pxelinux.cfg/{dashed_mac(MAC)}", "tftp")
    assert (
        "SAY midwife has nothing to boot for this machine: not known, and not to be asked here: serial"
        in text
    )
    assert "let DHCP send it iPXE, or write image and boot into its host file" in text
    assert "TIMEOUT 300" in text


def test_mboot_cannot_be_asked_and_its_title_says_so(world: World) -> None:
    text = world.text(f"{dashed_mac(MAC)}/boot.cfg")
    assert text == (
        "title=midwife has nothing to boot: not known, and not to be asked here: serial. let DHCP send it iPXE, "
        f"or write image and boot into its host file. This is mac {MAC}\n"
        "timeout=30\nkernel=nothing-to-boot\nerrtimeout=30\n"
    )
    assert world.kinds("esx-07") == ["no-image"]


def test_ipxe_is_asked_once_and_its_empty_values_count(world: World) -> None:
    text = world.text("ipxe", mac=MAC, serial="")
    assert "no rule gives it an image" in text
    assert "What to do: midwife rule suggest esx-07" in text
    assert world.state("esx-07") == "discovered"
    assert "it has no serial, serial=SN-1 asks for one" in " ".join(
        world.resolver.decide(Facts(macs=(MAC,))).reasons
    )


def test_after_a_restart_it_is_not_asked_again(world: World) -> None:
    world.text("ipxe", mac=MAC, serial="SN-1")
    world.start()
    assert "title=midwife: esx-07 boots 8.0U3" in world.text(f"{dashed_mac(MAC)}/boot.cfg")


def test_family_and_oem_strings_are_what_the_entry_script_sends(tmp_path: Path) -> None:
    world = World(make_site(tmp_path, hosts=[], rules=[BY_FAMILY]))
    script = world.text("boot.ipxe")
    assert all(f"oem{number}=${{smbios/11.0.{number}:uristring}}" in script for number in range(1, 9))
    assert "family=${smbios/1.26.0:uristring}" in script
    assert "boots 8.0U3" in world.text("ipxe", mac=MAC, family="PowerEdge", oem1="x", oem3="$SPT:a,b")
    world.close()


@pytest.mark.parametrize(
    ("vendor", "boots"), [("Cisco Systems Inc", True), ("Dell Inc.", False), ("", False)]
)
def test_an_image_for_other_hardware_is_not_booted(tmp_path: Path, vendor: str, boots: bool) -> None:
    hosts = [Host(name="esx-07", macs=(MAC,), image="8.0U3", configuration="base", boot="stateless")]
    world = World(make_site(tmp_path, hosts=hosts))
    folder = world.site.data_dir / "images" / "8.0U3"
    for_cisco = replace(read_manifest(folder), hardware=(HardwareRule("CISCO SYSTEMS INC", ()),))
    write_manifest(folder, for_cisco)
    assert read_manifest(folder) == for_cisco, "kept in image.json"
    assert world.resolver.decide(Facts(macs=(MAC,))).missing == ("vendor",)
    text = world.text("ipxe", mac=MAC, manufacturer=vendor)
    assert ("boots 8.0U3" in text) is boots
    if not boots:
        this = f"this one is {vendor}" if vendor else "this one tells no vendor"
        assert f"for this machine: image 8.0U3 is for CISCO SYSTEMS INC machines, {this}\n" in text
        assert "What to do: midwife explain esx-07" in text
        row = world.store.host("esx-07")
        assert row
        assert (row.state.value, row.image) == ("discovered", "8.0U3")
        assert row.note.endswith(f"image 8.0U3 is for CISCO SYSTEMS INC machines; {this}")
    world.close()


def test_location_and_script_bundle_are_recorded_with_the_attempt(tmp_path: Path) -> None:
    items = {"image": "rescue", "location": "Lab/Rack 7", "script-bundle": "lab.tgz"}
    world = World(make_site(tmp_path, hosts=[], rules=[{"name": "all", "patterns": "all", "items": items}]))
    world.text("ipxe", mac=MAC)
    attempt = world.attempts.current(MAC)
    assert attempt
    assert (attempt.answer["location"], attempt.answer["script-bundle"]) == ("Lab/Rack 7", "lab.tgz")
    assert attempt.answer["given-by"] == {"image": "'all'", "location": "'all'", "script-bundle": "'all'"}
    world.close()


def test_what_counts_after_the_boot_is_asked_where_it_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PXELINUX can hand over to iPXE; mboot cannot, and boots: the call after the boot settles the rest."""
    later = Rule(name="later", patterns=("asset=A-1",), items=Items(configuration="base"))
    host = Host(name="esx-07", macs=(MAC,), boot="stateless", image="8.0U3")
    site = world.site.model_copy(update={"hosts": (host,), "rules": (later,)})
    monkeypatch.setattr(world.resolver, "_site", site)
    pxelinux, mboot = f"pxelinux.cfg/{dashed_mac(MAC)}", f"{dashed_mac(MAC)}/boot.cfg"
    assert "KERNEL ipxe.lkrn" in world.text(pxelinux, "tftp")
    assert "SAY midwife: its asset is not known" in world.text(pxelinux, "tftp")
    assert "kernel=b.b00" in world.text(mboot)
    monkeypatch.setattr(loaders, "find", lambda *_: None)
    assert "mboot.c32" in world.text(pxelinux, "tftp"), "without iPXE it boots, too"
