"""VIBs of our own, read back by arpy, tarfile, lxml, GNU ar and our own reader; and what is refused."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import arpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.vib.archives.archive import list_files
from midwife.images.vib.container import VibFile
from midwife.images.vib.making.build import build_vib
from midwife.images.vib.making.spec import VibSpec, read_spec
from midwife.images.vib.verify import verify_vib
from midwife.site.validate import known_keys

SPEC = {"name": "midwife-agent", "version": "1.0.0-1", "vendor": "LAB"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "opt/midwife/empty").mkdir(parents=True)
    (root / "etc/init.d").mkdir(parents=True)
    (root / "opt/midwife/pbconnect").write_bytes(b"#!/bin/sh\nexit 0\n")
    (root / "opt/midwife/settings").write_bytes(b"a=1\n")
    (root / "opt/midwife/current").symlink_to("pbconnect")
    (root / "etc/init.d/midwife").write_bytes(b"#!/bin/sh\n")
    (root / "opt/midwife/pbconnect").chmod(0o700)
    (root / "etc/init.d/midwife").chmod(0o775)
    (root / "opt/midwife/settings").chmod(0o1600)
    return root


def built(folder: Path, out: Path, *, force: bool = False, **more: object) -> Path:
    build_vib(folder, out, read_spec(None, {**SPEC, **more}), force=force)
    return out


def test_other_peoples_programs_read_it(folder: Path, tmp_path: Path) -> None:
    path = built(folder, tmp_path / "agent.vib")

    with path.open("rb") as file, arpy.Archive(fileobj=file) as archive:
        archive.read_all_headers()
        members = {name.decode(): member.read() for name, member in archive.archived_files.items()}
    assert list(members) == ["descriptor.xml", "sig.pkcs7", "midwifea"]
    assert members["sig.pkcs7"] == b""

    plain = gzip.decompress(members["midwifea"])
    assert plain[257:265] == b"ustar  \0", "old GNU tar, as the boot module"
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        entries = [(one.name, one.mode, one.type, one.linkname) for one in tar]
        assert {(one.uid, one.gid, one.mtime) for one in tar} == {(0, 0, 0)}
    assert entries == [
        ("etc", 0o755, tarfile.DIRTYPE, ""),
        ("etc/init.d", 0o755, tarfile.DIRTYPE, ""),
        ("etc/init.d/midwife", 0o755, tarfile.REGTYPE, ""),
        ("opt", 0o755, tarfile.DIRTYPE, ""),
        ("opt/midwife", 0o755, tarfile.DIRTYPE, ""),
        ("opt/midwife/current", 0o777, tarfile.SYMTYPE, "pbconnect"),
        ("opt/midwife/empty", 0o755, tarfile.DIRTYPE, ""),
        ("opt/midwife/pbconnect", 0o755, tarfile.REGTYPE, ""),
        ("opt/midwife/settings", 0o1644, tarfile.REGTYPE, ""),
    ]

    root = etree.fromstring(members["descriptor.xml"])
    assert root.findtext("acceptance-level") == "community"
    assert [file.text for file in root.iterfind("file-list/file")] == [
        name for name, _, kind, _ in entries if kind != tarfile.DIRTYPE
    ]
    (payload,) = root.iterfind("payloads/payload")
    assert dict(payload.attrib) == {"name": "midwifea", "type": "tgz", "size": str(len(members["midwifea"]))}
    sums = {(one.get("checksum-type"), one.get("verify-process")): one.text for one in payload}
    assert sums == {
        ("sha-256", None): hashlib.sha256(members["midwifea"]).hexdigest(),
        ("sha-256", "gunzip"): hashlib.sha256(plain).hexdigest(),
        ("sha-1", "gunzip"): hashlib.sha1(plain).hexdigest(),
    }


@pytest.mark.skipif(not shutil.which("ar"), reason="GNU ar is not installed")
def test_gnu_ar_reads_it(folder: Path, tmp_path: Path) -> None:
    path = built(folder, tmp_path / "agent.vib")
    done = subprocess.run(["ar", "t", path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["descriptor.xml", "sig.pkcs7", "midwifea"]


@pytest.mark.parametrize("kind", ["tgz", "vgz"])
def test_our_own_reader_finds_nothing_wrong(folder: Path, tmp_path: Path, kind: str) -> None:
    path = built(folder, tmp_path / "agent.vib", **{"payload-type": kind, "payload-name": "pb"})
    with VibFile(path) as vib:
        assert vib.warnings == ()
        assert verify_vib(vib, every=True) == ()
        (payload,) = vib.package.payloads
        entries = {one.name: (one.kind, one.mode, one.size, one.link) for one in list_files(vib, payload)}
        assert vib.package.id == "LAB_bootbank_midwife-agent_1.0.0-1"
    assert entries["opt/midwife/settings"] == ("0", 0o1644, 4, "")
    assert entries["opt/midwife/current"] == ("2", 0o777, 0, "pbconnect")
    assert entries["opt/midwife/empty"][0] == "5"


def test_same_folder_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Neither times nor owners nor the order in which files were made get in."""
    first = built(folder, tmp_path / "first.vib").read_bytes()
    copy = tmp_path / "copy"
    for source in sorted(folder.rglob("*"), reverse=True):
        target = copy / source.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(source, target)
            target.chmod(source.stat().st_mode)
            os.utime(target, (1, 1))
    assert built(copy, tmp_path / "second.vib").read_bytes() == first


def test_everything_that_can_be_said(folder: Path, tmp_path: Path) -> None:
    spec_file = tmp_path / "vib.yaml"
    spec_file.write_text(
        """\
name: midwife-agent
version: 1.0.0-1
vendor: LAB
summary: Calls home
description: |
  Two lines
  of text
release-date: 2024-05-31T12:00:00Z
depends: [esx-base >= 7.0.0, vmkapi_2_3_0_0]
conflicts: other-agent
replaces: [old-agent << 2]
provides: [agent = 1.0, calls-home]
tags: [driver, lab]
urls: {"home page": "https://example.org/?a=b"}
hwplatform: ["Dell Inc.", "HPE:ProLiant DL380"]
live-install-allowed: true
live-remove-allowed: true
maintenance-mode: false
cimom-restart: false
stateless-ready: true
payload-name: pb
"""
    )
    out = tmp_path / "agent.vib"
    package = build_vib(folder, out, read_spec(spec_file, {"version": "1.0.0-2"}))
    with VibFile(out) as vib:
        assert vib.package == package
    assert (package.version, package.description) == ("1.0.0-2", "Two lines\nof text")
    assert [str(one) for one in package.depends] == ["esx-base >= 7.0.0", "vmkapi_2_3_0_0"]
    assert [str(one) for one in package.provides] == ["agent = 1.0", "calls-home"]
    assert [(one.vendor, one.model) for one in package.hardware_platforms] == [
        ("Dell Inc.", ""),
        ("HPE", "ProLiant DL380"),
    ]
    assert package.reference_urls[0].documented() == {"Title": "home page", "URL": "https://example.org/?a=b"}
    assert (package.live_install_ok, package.live_remove_ok, package.stateless_ready) == (True, True, True)
    assert package.release_date is not None
    assert package.release_date.isoformat() == "2024-05-31T12:00:00+00:00"


def test_mistakes_are_told_all_at_once_with_their_place(tmp_path: Path) -> None:
    spec_file = tmp_path / "vib.yaml"
    spec_file.write_text(
        "name: my agent\nversion: 1-2-3\nvendor: LAB\ndepends: esx-base => 7\nrelease-date: yesterday\n"
        "payload-type: zip\npayload-name: a/b\nsumary: x\nacceptance-level: best\nprovides: a >= 1\n"
    )
    with pytest.raises(FormatError) as caught:
        read_spec(spec_file)
    lines = str(caught.value).splitlines()
    assert {line.removeprefix(f"{spec_file}:").split(":")[0] for line in lines} == {
        "1", "2", "4", "5", "6", "7", "8", "9", "10",
    }  # fmt: skip
    assert "did you mean" in next(line for line in lines if "sumary" in line)
    with pytest.raises(FormatError, match="options: vendor is missing"):
        read_spec(None, {"name": "a", "version": "1"})
    with pytest.raises(FormatError, match=r"options: depends\.0: 'esx-base =>' is not a constraint"):
        read_spec(None, {**SPEC, "depends": "esx-base =>"})
    spec_file.write_text("name: agent\nvendor: LAB\n")
    with pytest.raises(FormatError, match=r"^options: version: '1-2-3' is not a version"):
        read_spec(spec_file, {"version": "1-2-3"})
    with pytest.raises(FormatError, match=r"absent\.yaml: cannot be read"):
        read_spec(tmp_path / "absent.yaml")


def test_files_where_a_host_would_refuse_them(folder: Path, tmp_path: Path) -> None:
    (folder / "etc/rc.local.d").mkdir()
    (folder / "etc/rc.local.d/agent.sh").write_text("x")
    out = tmp_path / "agent.vib"
    with pytest.raises(ImageError, match=r"etc/rc\.local\.d/agent\.sh: a community VIB must not") as caught:
        built(folder, out)
    assert "--force" in str(caught.value)
    assert not out.exists()
    built(folder, out, force=True)
    with VibFile(out) as vib:
        assert len(verify_vib(vib)) == 1
    built(folder, out, **{"acceptance-level": "partner"})
    with VibFile(out) as vib:
        assert verify_vib(vib) == ("it claims to be PartnerSupported, but it is not signed",)


def test_what_no_vib_can_bring(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "agent.vib"

    def refused(why: str) -> None:
        with pytest.raises(ImageError, match=why):
            built(folder, out, force=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"], "nothing is left behind"

    os.mkfifo(folder / "opt/pipe")
    refused("neither a file nor")
    (folder / "opt/pipe").unlink()
    (folder / "opt/a b").write_text("")
    refused("printable ASCII without blanks")
    (folder / "opt/a b").unlink()
    (folder / "opt" / ("x" * 96)).write_text("")
    refused("at most 99 characters")
    (folder / "opt" / ("x" * 96)).unlink()
    with pytest.raises(ImageError, match="is inside"):
        built(folder, folder / "agent.vib")
    with pytest.raises(ImageError, match="is not a folder"):
        built(tmp_path / "absent", out)
    with pytest.raises(ImageError, match="cannot be read or written"):
        built(folder, tmp_path / "absent" / "agent.vib")
    (tmp_path / "void").mkdir()
    with pytest.raises(ImageError, match="has no files"):
        built(tmp_path / "void", out)


def test_a_failed_build_leaves_the_old_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "agent.vib"
    built(folder, out)
    before = out.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("midwife.images.vib.making.build.write_vib", full)
    with pytest.raises(ImageError, match="No space left on device"):
        built(folder, out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.vib", "tree"]


def test_the_default_payload_name_fits_boot_media() -> None:
    assert read_spec(None, {**SPEC, "name": "My-Agent_2.0.longer"}).payload == "myagent2"
    assert read_spec(None, {**SPEC, "name": "nic"}).payload == "nic"


@given(
    st.dictionaries(
        st.sampled_from(known_keys(VibSpec)) | st.text(max_size=5),
        st.text(max_size=20) | st.lists(st.text(max_size=8), max_size=3),
        max_size=6,
    )
)
def test_any_options_are_a_spec_or_an_error(options: dict[str, object]) -> None:
    try:
        spec = read_spec(None, {**SPEC, **options})
    except FormatError:
        return
    assert spec.acceptance_level in AcceptanceLevel
    assert spec.payload
