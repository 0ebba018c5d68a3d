"""boot.cfg as mboot reads it. The table of quirks was observed on the loader of ESXi 9.0."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.wire import bootcfg
from midwife.wire.bootcfg import BootCfg, BootCfgError, Module, parse, render, rewrite

ESXI60 = Path(__file__).parents[1] / "data" / "boot-cfg" / "esxi60-boot.cfg"

INSTALLER = b"""\
bootstate=0
title=Loading ESXi installer
timeout=5
prefix=
kernel=/B.B00
kernelopt=runweasel cdromBoot
modules=/JUMPSTRT.GZ --- /useropts.gz --- /k.b00 opt1 opt2 --- /s.v00
build=8.0.3-0.0.24022510
updated=0
"""


def test_reads_a_real_one() -> None:
    cfg = parse(ESXI60.read_bytes())
    assert cfg.title == "Loading ESXi installer"
    assert (cfg.kernel, cfg.timeout, cfg.build) == ("tboot.b00", 5, "")
    assert cfg.prefix == "http://HOST_IP/installer-pxe-modules"
    assert cfg.kernelopt == "ks=http://HOST_IP/ks.cfg"
    assert len(cfg.modules) == 92
    assert (cfg.modules[0].name, cfg.modules[-1].name) == ("b.b00", "imgpayld.tgz")
    assert cfg.warnings == ()
    assert [key for key, _ in cfg.entries][:4] == ["bootstate", "title", "timeout", "kernel"]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("kernel=b.b00\r\ntitle=x\r\n", "kernel", "b.b00"),  # CRLF
        ("KERNEL=b.b00", "kernel", "b.b00"),  # keys do not mind the case
        ("Build=8", "build", "8"),
        ("  \tkernel=b.b00", "kernel", "b.b00"),  # leading blanks
        ("  # kernel=x\nkernel=b.b00", "kernel", "b.b00"),  # comments
        ("kernel= b.b00 ", "kernel", "b.b00"),  # blanks after the equals sign
        ("kernelopt=  a \t b  ", "kernelopt", "a b"),  # runs of blanks
        ("kernelopt=a=b c=d", "kernelopt", "a=b c=d"),  # only the first "=" counts
        ("kernelopt=a --- b", "kernelopt", "a --- b"),  # no separator there
        ("kernel=one\nkernel=two", "kernel", "two"),  # the last one wins
        ("k=b.b00", "kernel", "b.b00"),  # short for the first option that it begins
        ("kernelo=x", "kernelopt", "x"),
        ("mod=a.gz", "modules", "a.gz"),
        ("t=5 minutes", "title", "5 minutes"),
        ("ti=5 minutes", "title", "5 minutes"),
        ("tim=5", "timeout", "5"),
        ("n=1", "nobootif", "1"),
        ("=b.b00", "kernel", "b.b00"),  # nothing at all begins every option
        ("kernel=b. b00", "kernel", "b.b00"),  # white space is squeezed out of paths
        ("prefix=a b", "prefix", "ab"),
        ("modules=a.gz --- ", "modules", "a.gz"),  # a trailing separator is harmless
        ("frobnicate=Yes", "frobnicate", "Yes"),  # unknown keys are kept as they are
    ],
)
def test_mboots_own_rules(text: str, key: str, value: str) -> None:
    assert parse(text).get(key) == value


def test_a_blank_before_the_equals_sign_hides_the_line() -> None:
    cfg = parse("title=x\nkernel =b.b00\n")
    assert cfg.kernel == ""
    assert cfg.warnings == ("line 2 is ignored by mboot: there is a blank before '=', after 'kernel '",)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("kernel b.b00", "line 1 has no '='"),
        ("\nk=b.b00", "line 2: mboot takes 'k' for kernel"),
        ("kernel=a\nkernel=b", "line 2: kernel is given twice"),
        (
            "\ufeffkernel=a",
            "line 1: mboot does not know '\\ufeffkernel'",
        ),  # a Windows editor's byte order mark
        ("\u212aernel=a", "mboot does not know '\u212aernel'"),  # the Kelvin sign is no k
    ],
)
def test_tells_what_mboot_passes_over(text: str, warning: str) -> None:
    (told,) = parse(text).warnings
    assert warning in told


def test_bytes_that_are_no_utf8_are_told_and_survived() -> None:
    cfg = parse(b"kernel=b.b00\ntitle=caf\xe9\n")
    assert cfg.title == "caf\ufffd"
    assert cfg.warnings == ("line 2 is not UTF-8; the bytes in question became U+FFFD",)


@pytest.mark.parametrize("key", ["timeout", "nobootif", "skip", "errtimeout", "tftpblksize"])
def test_a_number_that_is_none_stops_the_boot(key: str) -> None:
    with pytest.raises(BootCfgError, match=rf"line 2: {key}='soon' must be a whole number") as caught:
        parse(f"kernel=b.b00\n{key}=soon\n")
    assert caught.value.line == 2


def test_an_empty_number_is_zero_and_a_missing_one_the_default() -> None:
    assert parse("timeout=\n").timeout == 0
    assert parse("kernel=b.b00\n").timeout == 5
    assert parse("errtimeout=-1\n").number("errtimeout", 5) == -1


def test_a_zero_byte_is_an_error() -> None:
    with pytest.raises(BootCfgError, match="line 2: holds a zero byte"):
        parse(b"kernel=b.b00\n\x00\x01\x02")


def test_modules_have_options_of_their_own() -> None:
    assert parse("modules=a.gz opt1  opt2 --- b.gz").modules == (Module("a.gz", "opt1 opt2"), Module("b.gz"))


def test_rewritten_for_tftp() -> None:
    """>> mboot over TFTP asks for boot.cfg  << names relative to the TFTP root, our words, no waiting"""
    cfg = rewrite(
        parse(INSTALLER),
        prefix="a/k3v9/8.0U3",
        kernelopt_add="PBHOST=192.0.2.3:3500 PBTOKEN=t0",
        kernelopt_drop=bootcfg.STATELESS_DROP,
        extra_modules=["midwife.tgz"],
        title="esx-01 (midwife)",
    )
    assert render(cfg).decode() == (
        "bootstate=0\n"
        "title=esx-01 (midwife)\n"
        "timeout=0\n"
        "prefix=a/k3v9/8.0U3\n"
        "kernel=b.b00\n"
        "kernelopt=PBHOST=192.0.2.3:3500 PBTOKEN=t0\n"
        "modules=jumpstrt.gz --- useropts.gz --- k.b00 opt1 opt2 --- s.v00 --- midwife.tgz\n"
        "build=8.0.3-0.0.24022510\n"
        "updated=0\n"
    )


def test_rewritten_for_http_every_name_becomes_a_url() -> None:
    cfg = rewrite(parse(INSTALLER), prefix="http://192.0.2.3:8080/a/k3v9/8.0U3/")
    assert cfg.prefix == "http://192.0.2.3:8080/a/k3v9/8.0U3"
    assert not any(module.name.startswith("/") for module in cfg.modules)
    assert bootcfg.kernel_line(cfg) == (
        "http://192.0.2.3:8080/a/k3v9/8.0U3/b.b00 runweasel BOOTIF=01-00-00-00-00-00-00"
    )


@pytest.mark.parametrize(
    ("image", "drop", "add", "result"),
    [
        ("runweasel cdromBoot", bootcfg.INSTALL_DROP, "", "runweasel"),
        ("cdromBoot runweasel", bootcfg.INSTALL_DROP, "A=1", "runweasel A=1"),
        ("CDROMBOOT runweasel", bootcfg.INSTALL_DROP, "", "runweasel"),
        ("runweasel cdromBoot", bootcfg.INSTALL_DROP, "ks=http://h/ks", "ks=http://h/ks"),
        ("ks=cdrom:/KS.CFG cdromBoot", bootcfg.INSTALL_DROP, "ks=http://h/ks", "ks=http://h/ks"),
        ("ks=http://h/k runweasel a=1", bootcfg.STATELESS_DROP, "", "a=1"),
        ("a=1 PBHOST=old:1 b", (), "PBHOST=new:2", "a=1 b PBHOST=new:2"),
        ('name="two words" ks="http://h/a b" x', ("ks=",), "", 'name="two words" x'),
        ("noks=1 ks=2", ("ks=",), "", "noks=1"),
        ("a=1", (), "b=2\nkernel=evil", "a=1 b=2 kernel=evil"),  # a value cannot begin a line of its own
    ],
)
def test_kernel_words(image: str, drop: tuple[str, ...], add: str, result: str) -> None:
    cfg = parse(f"kernel=b.b00\nkernelopt={image}\n")
    done = rewrite(cfg, prefix="x", kernelopt_add=add, kernelopt_drop=drop)
    assert done.kernelopt == result
    assert parse(render(done)) == done


def test_other_paths_move_along_and_unknown_keys_stay() -> None:
    cfg = parse(
        "kernel=/b.b00\ncrypto=/EFI/BOOT/CRYPTO64.EFI\nacpitables=/A.AML --- b.aml\nnorts=1\nfoo=Bar\n"
    )
    done = rewrite(cfg, prefix="x", extra_modules=[Module("http://h/Driver.TGZ", "opt")])
    assert done.get("crypto") == "efi/boot/crypto64.efi"
    assert done.get("acpitables") == "a.aml --- b.aml"
    assert (done.get("norts"), done.get("foo")) == ("1", "Bar")
    assert done.get("modules") == "http://h/Driver.TGZ opt"  # a URL is not ours to change


def test_no_bootif_where_it_is_forbidden_or_given() -> None:
    assert bootcfg.kernel_line(parse("kernel=k\nnobootif=1")) == "k"
    assert bootcfg.kernel_line(parse("kernel=k\nkernelopt=BOOTIF=01-a")) == "k BOOTIF=01-a"
    assert bootcfg.kernel_line(parse("kernel=/k\nprefix=p"), "01-b") == "/k BOOTIF=01-b"


def test_local_boot_gives_up_at_once() -> None:
    cfg = parse(render(bootcfg.local_boot_cfg()))
    assert (cfg.number("skip", 0), cfg.number("errtimeout", -1), cfg.timeout) == (1, 1, 0)
    assert cfg.warnings == ()


@given(st.binary(max_size=400))
def test_any_bytes_give_a_value_or_one_error(data: bytes) -> None:
    try:
        cfg = parse(data)
    except BootCfgError:
        return
    assert parse(render(cfg)) == cfg
    assert isinstance(cfg.timeout, int)
    done = rewrite(cfg, prefix="p", kernelopt_add="PBHOST=h:1")
    assert parse(render(done)) == done
    assert done.kernelopt.endswith("PBHOST=h:1")


KEYS = st.sampled_from(
    ["kernel", "k", "Modules", "kernelopt", "timeout", "skip", "build", "x", "x ", "#", ""]
)
VALUES = st.text(alphabet='ab0 -/\t\r"#=\u00a0\u212a;', max_size=20) | st.integers().map(str)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=12))
def test_what_is_written_is_what_is_read(lines: list[tuple[str, str]]) -> None:
    try:
        cfg = parse("\n".join(f"{key}={value}" for key, value in lines))
    except BootCfgError:
        return
    assert parse(render(cfg)) == cfg
    again = BootCfg(cfg.entries).replaced(title=" new\ntitle ")
    assert parse(render(again)) == again
    assert again.title == "new title"
