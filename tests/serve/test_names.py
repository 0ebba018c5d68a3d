"""Names on the boot plane: what loaders really ask for, and what nobody may."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.serve.messages import split_attempt
from midwife.serve.names import (
    BadName,
    BootCfgName,
    PxelinuxName,
    clean,
    parse_bootcfg,
    parse_pxelinux,
)

UUID, SWAPPED = "11223344-5566-7788-99aa-bbccddeeff00", "44332211-6655-8877-99aa-bbccddeeff00"


@pytest.mark.parametrize(
    "name", ["esx/b.b00", "/esx/b.b00", "//esx//b.b00", "\\esx\\b.b00", "./esx/./b.b00", "esx/b.b00/"]
)
def test_one_file_however_a_loader_writes_it(name: str) -> None:
    assert clean(name) == "esx/b.b00"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a\\..\\x", "..", "a/..", "a\0b", "a\nb", "\x7f"])
def test_names_that_would_leave_the_tree(name: str) -> None:
    with pytest.raises(BadName):
        clean(name)


@pytest.mark.parametrize("name", ["...", "a..b", "..a/b", "a/.../b"])
def test_dots_alone_do_no_harm(name: str) -> None:
    assert clean(name) == name


@given(st.text(max_size=80) | st.text("./\\ab\0", max_size=20))
def test_any_name_is_clean_or_refused(name: str) -> None:
    with contextlib.suppress(BadName):
        plain = clean(name)
        assert clean(plain) == plain
        assert not plain.startswith("/")
        assert not {"", ".", ".."} & set(plain.split("/")) or plain == ""
        parse_pxelinux(plain)
        parse_bootcfg(plain)
        attempt, rest = split_attempt(plain)
        assert (f"a/{attempt}/{rest}" if attempt else rest) == plain


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (f"pxelinux.cfg/{SWAPPED}", PxelinuxName(uuids=(SWAPPED, UUID))),
        ("pxelinux.cfg/01-52-54-00-12-34-56", PxelinuxName(mac="52:54:00:12:34:56")),
        ("pxelinux.cfg/C000020B", PxelinuxName(ipv4="192.0.2.11")),
        ("pxelinux.cfg/c000020b", PxelinuxName(ipv4="192.0.2.11")),
        ("pxelinux.cfg/C000020", PxelinuxName(prefix=True)),
        ("pxelinux.cfg/C", PxelinuxName(prefix=True)),
        ("pxelinux.cfg/default", PxelinuxName()),
        ("boot/pxelinux.cfg/default", PxelinuxName()),
        # a vendor's dummy names nobody: the MAC address is asked next
        ("pxelinux.cfg/00000000-0000-0000-0000-000000000000", PxelinuxName(prefix=True)),
        ("pxelinux.cfg/C000020BC", None),
        ("pxelinux.cfg/graphics.png", None),
        ("pxelinux.cfg/01-52-54", None),
        ("pxelinux.0", None),
        ("pxelinux.cfg", None),
    ],
)
def test_what_pxelinux_asks_in_its_order(name: str, asked: PxelinuxName | None) -> None:
    assert parse_pxelinux(name) == asked


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("boot.cfg", BootCfgName()),
        ("BOOT.CFG", BootCfgName()),
        ("8.0U3/boot.cfg", BootCfgName()),
        ("01-52-54-00-12-34-56/boot.cfg", BootCfgName("52:54:00:12:34:56")),
        ("8.0U3/01-52-54-00-12-34-56/boot.cfg", BootCfgName("52:54:00:12:34:56")),
        ("01-no-mac/boot.cfg", None),
        ("boot.cfg.bak", None),
    ],
)
def test_where_mboot_looks_for_its_configuration(name: str, asked: BootCfgName | None) -> None:
    assert parse_bootcfg(name) == asked
