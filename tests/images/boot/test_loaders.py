"""Boot loaders from the site and from the distribution's packages (those of this machine, and pretended ones)."""

from pathlib import Path

import pytest

from midwife.images.boot import loaders


@pytest.mark.parametrize("name", ["pxelinux.0", "ldlinux.c32", "undionly.kpxe", "snponly.efi", "ipxe.efi"])
def test_debians_packages_have_them(name: str) -> None:
    """pxelinux, syslinux-common and ipxe are among the test dependencies."""
    found = loaders.find(name)
    assert found, loaders.missing(name)
    assert found.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("pxelinux.0", "usr/share/syslinux/pxelinux.0"),  # Fedora, openSUSE
        ("pxelinux.0", "usr/lib/syslinux/bios/pxelinux.0"),  # Arch
        ("ldlinux.c32", "usr/share/syslinux/ldlinux.c32"),
        ("undionly.kpxe", "usr/share/ipxe/undionly.kpxe"),
        ("snponly.efi", "usr/share/ipxe/ipxe-snponly-x86_64.efi"),  # Fedora
        ("ipxe.efi", "usr/share/ipxe/x86_64/ipxe.efi"),  # Arch
    ],
)
def test_other_distributions(name: str, path: str, tmp_path: Path) -> None:
    assert loaders.find(name, system=tmp_path) is None
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"loader")
    assert loaders.find(name, system=tmp_path) == tmp_path / path


def test_the_sites_own_comes_first_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "loaders").mkdir()
    for name in ("pxelinux.0", "grubx64.efi"):
        (tmp_path / "loaders" / name).write_bytes(b"mine")
        assert loaders.find(name, tmp_path) == tmp_path / "loaders" / name


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "a/b", "x\0y", "pxelinux.0/"])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "loaders").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    assert loaders.find(name, tmp_path) is None


def test_a_symbolic_link_out_of_the_site_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loaders").mkdir()
    (tmp_path / "secret.key").write_bytes(b"secret")
    (tmp_path / "loaders" / "my.efi").symlink_to(tmp_path / "secret.key")
    (tmp_path / "loaders" / "loop.efi").symlink_to("loop.efi")
    (tmp_path / "loaders" / "real.efi").write_bytes(b"x")
    (tmp_path / "loaders" / "also.efi").symlink_to("real.efi")
    assert loaders.find("my.efi", tmp_path) is None
    assert loaders.find("loop.efi", tmp_path) is None
    assert loaders.find("also.efi", tmp_path) == (tmp_path / "loaders" / "real.efi").resolve()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("pxelinux.0", "pxelinux (Debian"),
        ("ldlinux.c32", "syslinux-common"),
        ("snponly.efi", "ipxe-bootimgs"),
    ],
)
def test_says_what_to_install(name: str, package: str) -> None:
    told = loaders.missing(name)
    assert package in told
    assert f"loaders/{name}" in told


def test_esxis_own_loaders_come_from_images() -> None:
    assert loaders.find("mboot.c32") is None, "syslinux has a file of that name, which is another program"
    assert "import an image that brings it" in loaders.missing("mboot.c32")


def test_mboot_c32_needs_an_old_pxelinux(tmp_path: Path) -> None:
    """Observed: 6.04 says "Failed to load COM32 file mboot.c32", 3.86 loads it."""
    new = loaders.find("pxelinux.0")
    assert new
    version = loaders.pxelinux_version(new)
    assert version
    assert version >= (6, 3)
    assert "cannot load ESXi's mboot.c32" in (loaders.old_pxelinux_warning(new) or "")

    old = tmp_path / "pxelinux.0"
    old.write_bytes(b"\xe9junk\0PXELINUX 3.86 2010-04-01  Copyright (C) 1994-2010 H. Peter Anvin et al\0")
    assert loaders.pxelinux_version(old) == (3, 86)
    assert loaders.old_pxelinux_warning(old) is None


def test_what_is_no_pxelinux_has_no_version(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"MZ")
    for path in (tmp_path / "x", tmp_path / "gone"):
        assert loaders.pxelinux_version(path) is None
        assert loaders.old_pxelinux_warning(path) is None
