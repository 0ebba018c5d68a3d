"""The boot module, read back by other people's programs: GNU tar, busybox tar, GNU cpio, busybox cpio."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from midwife.images.boot.module import BootModuleError, boot_module, build_cpio, build_tgz

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIAAHKE6HWv5TeXIx9GhDq1dLiFiBFFKniybqlwRJY78 midwife@lab"
TREE = {"opt/midwife/tool": b"#!/bin/sh\n", "opt/midwife/data": b"\0\1\2", "etc/x/y.sh": b""}
EXECUTABLE = ("opt/midwife/tool",)


def run(*command: str | Path, data: bytes = b"", cwd: Path | None = None) -> str:
    return subprocess.run(command, input=data, cwd=cwd, check=True, capture_output=True).stdout.decode()


def test_the_bytes_that_esxi_wants() -> None:
    """Old-GNU magic, root's, directories with a slash and before what they contain."""
    plain = gzip.decompress(build_tgz(TREE, EXECUTABLE))

    assert plain[257:265] == b"ustar  \0"
    assert plain[:5] == b"etc/\0"
    listing = run("tar", "--numeric-owner", "-tvf", "-", data=plain).splitlines()
    assert [(line.split()[0], line.split()[1], line.split()[-1]) for line in listing] == [
        ("drwxr-xr-x", "0/0", "etc/"),
        ("drwxr-xr-x", "0/0", "etc/x/"),
        ("-rw-r--r--", "0/0", "etc/x/y.sh"),
        ("drwxr-xr-x", "0/0", "opt/"),
        ("drwxr-xr-x", "0/0", "opt/midwife/"),
        ("-rw-r--r--", "0/0", "opt/midwife/data"),
        ("-rwxr-xr-x", "0/0", "opt/midwife/tool"),
    ]


def test_same_input_same_bytes_whatever_the_order_and_time() -> None:
    backwards = dict(reversed(TREE.items()))
    for build in (build_tgz, build_cpio):
        packed = build(TREE, EXECUTABLE)
        assert packed == build(backwards, list(EXECUTABLE))
        assert packed[4:8] == b"\0\0\0\0"  # gzip's time stamp (RFC 1952)


@pytest.mark.parametrize(
    ("build", "unpack"),
    [
        (build_tgz, ["tar", "-xzf", "-"]),
        (build_tgz, ["busybox", "tar", "-xzf", "-"]),
        (build_cpio, ["sh", "-c", "gzip -d | cpio -i --quiet"]),
        (build_cpio, ["sh", "-c", "gzip -d | busybox cpio -i"]),
    ],
    ids=["GNU tar", "busybox tar", "GNU cpio", "busybox cpio"],
)
def test_independent_readers_get_the_tree(build: object, unpack: list[str], tmp_path: Path) -> None:
    assert callable(build)
    run(*unpack, data=build(TREE, EXECUTABLE), cwd=tmp_path)

    for name, content in TREE.items():
        assert (tmp_path / name).read_bytes() == content
    modes = {
        name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("etc/x/y.sh", "opt/midwife/tool")
    }
    assert modes == {"etc/x/y.sh": 0o644, "opt/midwife/tool": 0o755}


def test_cpio_belongs_to_root_and_ends_where_the_kernel_expects() -> None:
    plain = gzip.decompress(build_cpio(TREE, EXECUTABLE))

    assert len(plain) % 512 == 0
    listing = run("cpio", "-itvn", "--quiet", data=plain).splitlines()
    assert [(line.split()[2], line.split()[3]) for line in listing] == [("0", "0")] * 7
    assert [line.split()[-1] for line in listing][:3] == ["etc", "etc/x", "etc/x/y.sh"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../b", "a//b", "", "a/", "./a", "ä", "a b", "a\nb", "x" * 100]
)
def test_a_path_that_would_leave_the_tree_or_not_fit_is_refused(name: str) -> None:
    for build in (build_tgz, build_cpio):
        with pytest.raises(BootModuleError):
            build({name: b""})


def test_a_file_cannot_be_a_directory_too() -> None:
    with pytest.raises(BootModuleError, match="'a': both a file and the directory"):
        build_tgz({"a": b"", "a/b": b""})


def test_executables_must_be_among_the_files() -> None:
    with pytest.raises(BootModuleError, match="x: to be executable"):
        build_tgz({"a": b""}, ["x"])


def test_the_module_for_esxi() -> None:
    with tarfile.open(fileobj=io.BytesIO(boot_module(KEY + "\n", "esxi"))) as tar:
        modes = {member.name: member.mode for member in tar if member.isfile()}
        key = tar.extractfile("opt/midwife/authorized_key")
        assert key is not None
        assert key.read() == KEY.encode() + b"\n"
        script = tar.extractfile("opt/midwife/pbconnect")
        assert script is not None
        assert script.readline() == b"#!/bin/sh\n"
    assert modes == {
        "etc/rc.local.d/zz-midwife.sh": 0o755,
        "opt/midwife/authorized_key": 0o644,
        "opt/midwife/pbconnect": 0o755,
    }


def test_the_module_for_linux_has_the_same_tree(tmp_path: Path) -> None:
    names = run("cpio", "-it", "--quiet", data=gzip.decompress(boot_module(KEY, "linux"))).split()

    with tarfile.open(fileobj=io.BytesIO(boot_module(KEY, "esxi"))) as tar:
        assert names == tar.getnames()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        KEY + "\nssh-rsa AAAA",
        'command="x" ' + KEY,
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----",
        "ssh-rsa " + KEY[12:],
    ],
)
def test_what_is_no_public_key_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(BootModuleError) as caught:
        boot_module(text, "esxi")
    assert "c2VjcmV0" not in str(caught.value)


def test_scripts_are_executable_in_the_checkout() -> None:
    boot = Path(__file__).parents[3] / "boot"
    for name in ("pbconnect", "module/etc/rc.local.d/zz-midwife.sh"):
        assert os.access(boot / name, os.X_OK), name
