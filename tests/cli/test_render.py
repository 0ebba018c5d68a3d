"""``midwife render``: bytes on standard output, and nothing else there."""

from pathlib import Path

import pytest

from midwife.site.load import load
from tests.serve.deciding import World, import_esxi

from .sites import MACS, midwife, process, write_site


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = write_site(tmp_path)
    import_esxi(root / "data")
    (root / "hosts/esx-02.yaml").write_text("macs: 52:54:00:00:00:0a\nimage: 8.0U3\n")
    return root


@pytest.mark.parametrize(
    ("host", "kind", "over", "name"),
    [
        ("esx-01", "pxelinux", "http", "pxelinux.cfg/01-52-54-00-00-00-01"),
        ("esx-01", "ipxe", "http", "ipxe"),
        ("esx-02", "boot.cfg", "http", "01-52-54-00-00-00-0a/boot.cfg"),
        ("esx-02", "boot.cfg", "tftp", "01-52-54-00-00-00-0a/boot.cfg"),
        ("disk-03", "ipxe", "http", "ipxe"),
    ],
)
def test_what_the_live_service_gives_but_for_the_placeholder(
    site: Path, host: str, kind: str, over: str, name: str
) -> None:
    shown = midwife("render", host, kind, "--over", over, "--site", site).stdout
    world = World(load(site).site)
    macs = {**MACS, "esx-02": "52:54:00:00:00:0a"}
    proto = "tftp" if kind == "pxelinux" else over
    live = world.text(name, proto, mac=macs[host]) if kind == "ipxe" else world.text(name, proto)
    trip = world.attempts.current(host)
    world.close()
    if trip:
        head, found, tail = live.partition("PBTOKEN=")
        live = f"{head}{found}preview0.your-token-is-made-at-boot{tail[35:]}" if found else live
        live = live.replace(trip.id, "preview0")
    assert shown == live


def test_bytes_and_nothing_else(site: Path) -> None:
    done = process("render", "esx-02", "boot.cfg", "--site", site)
    assert done.returncode == 0
    assert done.stdout.startswith("bootstate=0\ntitle=midwife: esx-02 boots 8.0U3\n")
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("esx-01", "boot.cfg"), 1, "esx-01 boots rescue, which is no ESXi image: mboot cannot load it"),
        (("esx-99", "ipxe"), 1, "'esx-99' is no host of the site"),
        (("esx-01", "grub"), 2, "'grub' is not one of 'boot.cfg', 'pxelinux', 'ipxe'"),
    ],
)
def test_what_cannot_be_rendered(site: Path, words: tuple[str, str], code: int, says: str) -> None:
    result = midwife("render", *words, "--site", site)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_broken_template_of_the_site(site: Path) -> None:
    (site / "templates").mkdir()
    (site / "templates/linux.ipxe.j2").write_text("#!ipxe\n{{ nobody }}\n")
    result = midwife("render", "esx-01", "ipxe", "--site", site)
    assert result.exit_code == 1
    assert "templates/linux.ipxe.j2:2" in result.stderr
    assert "nobody" in result.stderr
