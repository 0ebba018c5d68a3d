"""Payloads unpacked: with the same result as other people's programs, and never outside of the directory."""

import hashlib
import io
import lzma
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.archives.archive import Extracted, extract, list_files
from midwife.images.vib.archives.tar import read_tar
from midwife.images.vib.archives.tarhead import TarEntry
from midwife.images.vib.archives.vmtar import write_vmtar
from midwife.images.vib.archives.xzstreams import unxz
from midwife.images.vib.content import Vib
from tests.images.vib.given import mutations, payload_of, stored_zip, vib_of, written, zipped, zstd_as_esxi

DIRECTORY = TarEntry("etc", "5", mode=0o750)
CONFIG = TarEntry("etc/config", "0", 5, 0o1644, mtime=1556630400)
PROGRAM = TarEntry("opt/deep/program", "7", 5, 0o4755)
LINK = TarEntry("etc/link", "2", link="../opt/deep/program")


def vmtar(*entries: TarEntry) -> bytes:
    return written(write_vmtar, entries, lambda entry: [b"x = 1"])


def tar(*entries: TarEntry, format: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.mtime = entry.kind.encode(), entry.mode, entry.mtime
            info.size, info.linkname = entry.size, entry.link
            archive.addfile(info, io.BytesIO(b"x = 1") if entry.is_file else None)
    return out.getvalue()


def vib(inside: bytes, type: str) -> Vib:
    body = stored_zip(zstd_as_esxi(inside)) if type == "vzstd" else zipped(inside)
    return vib_of((payload_of("one", type, body, inside), body))


def names(given: Vib) -> list[str]:
    return [entry.name for entry in list_files(given, given.package.payloads[0])]


def unpack(given: Vib, directory: Path, **options: bool) -> Extracted:
    return extract(given, given.package.payloads[0], directory, **options)


def tree(directory: Path) -> dict[str, str]:
    """Each path with its mode and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        what = f"-> {path.readlink()}" if path.is_symlink() else "/" if path.is_dir() else path.read_text()
        found[str(path.relative_to(directory))] = f"{stat.S_IMODE(path.lstat().st_mode):o} {what}"
    return found


ALL = (DIRECTORY, CONFIG, PROGRAM, LINK)
EVERYWHERE = [(vmtar(*ALL), "vgz"), (vmtar(*ALL), "vzstd"), (tar(*ALL), "tgz"), (tar(*ALL), "vgz")]


@pytest.mark.parametrize(("inside", "type"), EVERYWHERE, ids=["vmtar", "vzstd", "tar", "a tar that says vgz"])
def test_listed_and_unpacked(inside: bytes, type: str, tmp_path: Path) -> None:
    given = vib(inside, type)

    assert names(given) == ["etc", "etc/config", "opt/deep/program", "etc/link"]
    assert unpack(given, tmp_path) == Extracted(4)
    assert tree(tmp_path) == {
        "etc": "750 /",
        "etc/config": "644 x = 1",
        "etc/link": "777 -> ../opt/deep/program",
        "opt": "755 /",
        "opt/deep": "755 /",
        "opt/deep/program": "755 x = 1",
    }
    assert (tmp_path / "etc/config").stat().st_mtime == 1556630400


def xz(data: bytes) -> bytes:
    """As ``xz -9 --check=crc32``."""
    return lzma.compress(data, check=lzma.CHECK_CRC32, preset=9)


@pytest.mark.parametrize("pack", [xz, zstd_as_esxi])
@pytest.mark.parametrize("type", ["vgz", "tgz", "vzstd"])
def test_packed_twice_as_in_the_base_vib_and_followed_by_a_signature(
    type: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    given = vib(pack(vmtar(*ALL)) + b"a signature for secure boot", type)

    assert names(given) == ["etc", "etc/config", "opt/deep/program", "etc/link"]
    assert unpack(given, tmp_path) == Extracted(4)
    assert (tmp_path / "opt/deep/program").read_text() == "x = 1"


def test_damaged_xz() -> None:
    def refused(data: bytes, reason: str) -> None:
        with pytest.raises(FormatError, match=rf"payload one: {reason}"):
            names(vib(data, "vgz"))

    packed = xz(vmtar(*ALL))
    refused(packed[:60], "the xz stream is truncated")
    refused(packed[:40] + b"?" + packed[41:], "damaged xz data")
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    refused(greedy, "damaged xz data: Memory usage limit exceeded")


def test_xz_comes_in_pieces_however_small_it_was() -> None:
    """3 KB that become 20 MB."""
    bomb = lzma.compress(bytes(20 << 20))
    sizes = [len(piece) for piece in unxz([bomb], "x")]
    assert (max(sizes), sum(sizes)) == (1 << 20, 20 << 20)


def test_special_modes_only_if_they_are_asked_for(tmp_path: Path) -> None:
    unpack(vib(vmtar(*ALL), "vgz"), tmp_path, special_modes=True)
    assert [text.split()[0] for text in tree(tmp_path).values()] == [
        "750",
        "1644",
        "777",
        "755",
        "755",
        "4755",
    ]


@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--format=ustar"], ["--format=posix"], ["--format=v7"]]
)
def test_what_gnu_tar_packs(options: list[str], tmp_path: Path) -> None:
    """Long names, hard links, and everything where GNU tar puts it."""
    source, target = tmp_path / "source", tmp_path / "target"
    long = "d" * 60 + "/" + ("f" * 30 if "v7" in options[0] else "f" * 70)
    for name in ("etc/a", "etc/b", long):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name * 100)
    (source / "etc/hard").hardlink_to(source / "etc/a")
    (source / "etc/soft").symlink_to("/" + "t" * 90)
    target.mkdir()
    packed = subprocess.run(
        ["tar", *options, "-C", source, "-c", "."], check=True, capture_output=True
    ).stdout  # fmt: skip

    assert unpack(vib(packed, "tgz"), target).skipped == ()
    assert tree(target) == tree(source)
    assert (target / "etc/hard").stat().st_ino == (target / "etc/a").stat().st_ino


def test_the_same_as_busybox_with_a_large_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "large").write_bytes(os.urandom(3_000_001))
    packed = subprocess.run(
        ["busybox", "tar", "-C", source, "-c", "large"], check=True, capture_output=True
    ).stdout
    unpack(vib(packed, "tgz"), target)
    digests = [hashlib.sha256((side / "large").read_bytes()).digest() for side in (source, target)]
    assert digests[0] == digests[1]


LEAVING = ["../x", "/x", "etc/../../x", "a/..", "..", "d/" * 100 + "x"]


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("kind", ["0", "2", "5"])
@pytest.mark.parametrize("pack", [vmtar, tar])
def test_names_that_lead_outside(name: str, kind: str, pack: object, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "x"
    inside.mkdir()
    assert callable(pack)
    if pack is vmtar and len(name) > 99:
        name = "/" + name[:90]
    entry = TarEntry(name, kind, 5 if kind == "0" else 0, link="y" if kind == "2" else "")
    given = vib(pack(entry), "vgz")

    with pytest.raises(FormatError, match="leads out of the archive"):
        unpack(given, inside)
    assert not outside.exists()
    assert not any(path.is_file() or path.is_symlink() for path in inside.rglob("*"))


@pytest.mark.parametrize("pack", [vmtar, tar])
def test_nothing_is_written_through_a_link_of_the_archive(pack: object, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    assert callable(pack)
    away = TarEntry("away", "2", link=str(outside))
    through = TarEntry("away/file", "0", 5)
    with pytest.raises(ImageError, match="'away' is there already"):
        unpack(vib(pack(away, through), "vgz"), inside)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["away/file", "away/deep/file", "away"])
def test_nothing_is_written_through_a_link_that_was_there(name: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "away").symlink_to(outside / "new" if name == "away" else outside)
    with pytest.raises(ImageError, match=r"should be a directory|is there already"):
        unpack(vib(vmtar(TarEntry(name, "0", 5)), "vgz"), inside)
    assert list(outside.iterdir()) == []


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/config").write_text("mine")
    with pytest.raises(ImageError, match="'etc/config' is there already; unpack to an empty directory"):
        unpack(vib(vmtar(CONFIG), "vgz"), tmp_path)
    assert (tmp_path / "etc/config").read_text() == "mine"
    with pytest.raises(ImageError, match="is there already"):
        unpack(vib(vmtar(PROGRAM, PROGRAM), "vgz"), tmp_path)


def test_a_hard_link_to_a_file_of_the_host_is_left_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(FormatError, match="leads out of the archive"):
        unpack(vib(tar(TarEntry("x", "1", link="../secret")), "tgz"), inside)
    skipped = unpack(vib(tar(TarEntry("x", "1", link="secret")), "tgz"), inside).skipped
    assert skipped == (
        "Lab_bootbank_agent_1.0-1: payload one: 'x' is a link to 'secret', which is not in the archive; "
        "it was left out",
    )


def test_devices_are_left_out_and_said(tmp_path: Path) -> None:
    device = TarEntry("dev/sda", "4")
    extracted = unpack(vib(tar(device, TarEntry("dev/pipe", "6"), CONFIG), "tgz"), tmp_path)

    assert list(tree(tmp_path)) == ["etc", "etc/config"]
    assert [text.split(": ")[2][:20] for text in extracted.skipped] == [
        "'dev/sda' is a devic",
        "'dev/pipe' is a devi",
    ]


def test_files_that_share_their_content(tmp_path: Path) -> None:
    twins = bytearray(vmtar(CONFIG, replace(PROGRAM, kind="0"), TarEntry("a"), TarEntry("b")))
    header = twins[512:1024]
    header[496:500] = twins[496:500]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    twins[512:1024] = header

    assert unpack(vib(bytes(twins), "vgz"), tmp_path).files == 4
    assert {name: text for name, text in tree(tmp_path).items() if "/" not in text[4:]} == {
        "a": "644 ", "b": "644 ", "etc/config": "644 x = 1", "opt/deep/program": "755 x = 1",
    }  # fmt: skip


def test_one_content_with_a_thousand_names_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vmtar of a few KB can ask for any number of copies of what is in it once."""
    monkeypatch.setattr("midwife.images.vib.archives.planting._MOST", 5 * 50)
    names = [TarEntry(f"opt/{number:03}", "0", 5, 0o644) for number in range(200)]
    archive = bytearray(vmtar(*names))
    for at in range(512, 512 * len(names), 512):
        archive[at + 496 : at + 500] = archive[496:500]
        archive[at + 148 : at + 156] = b" " * 8
        archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])
    with pytest.raises(FormatError, match="nothing more of it is unpacked"):
        unpack(vib(bytes(archive), "vgz"), tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "opt").iterdir()) == 5 * 50


def test_the_permissions_of_a_directory_that_was_there_stay(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(mode=0o700)
    unpack(vib(vmtar(*ALL, TarEntry("opt", "5", mode=0o711)), "vgz"), tmp_path)
    assert {name: text for name, text in tree(tmp_path).items() if "/" not in name} == {
        "etc": "700 /",
        "opt": "711 /",
    }


def test_an_unwritable_directory_does_not_stop_its_files(tmp_path: Path) -> None:
    locked = TarEntry("etc", "5", mode=0o555)
    unpack(vib(vmtar(locked, CONFIG), "vgz"), tmp_path)
    assert tree(tmp_path)["etc"] == "755 /"


def test_what_is_no_archive(tmp_path: Path) -> None:
    raw = vib_of((payload_of("one", "text", b"readme"), b"readme"))
    for use in (lambda: names(raw), lambda: unpack(raw, tmp_path)):
        with pytest.raises(FormatError, match="payload one is of type text: not an archive"):
            use()
    with pytest.raises(FormatError, match="no archive header"):
        names(vib(b"\x7fELF" * 200, "vgz"))
    with pytest.raises(ImageError, match=r"cannot unpack to .*missing: No such file"):
        unpack(vib(vmtar(CONFIG), "vgz"), tmp_path / "missing")


def test_tars_that_lie() -> None:
    def refused(data: bytes, reason: str) -> None:
        with pytest.raises(FormatError, match=reason):
            sum(1 for _, content in read_tar([data], "tar") for _ in content)

    def with_size(data: bytes, size: int) -> bytes:
        header = bytearray(data[:512])
        header[124:136] = b"%011o\0" % size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + data[512:]

    refused(with_size(tar(CONFIG), 8_000_000_000), "truncated")
    refused(with_size(tar(TarEntry("n" * 200)), 8_000_000_000), "a header of 8,000,000,000 bytes")
    pax = tar(TarEntry("ä" * 200), format=tarfile.PAX_FORMAT)
    refused(pax.replace(b" path=", b"-path="), "damaged pax header")
    assert [entry.name for entry, _ in read_tar([pax], "tar")] == ["ä" * 200]


def test_a_tar_without_its_last_padding_and_end() -> None:
    data = tar(CONFIG)[:517]
    assert [(entry.name, b"".join(content)) for entry, content in read_tar([data], "tar")] == [
        ("etc/config", b"x = 1")
    ]


@settings(max_examples=80, deadline=None)
@given(
    data=st.one_of(
        mutations(vmtar(*ALL)[:8800]),
        mutations(tar(*ALL, format=tarfile.PAX_FORMAT)[:4096]),
        mutations(xz(vmtar(*ALL))),
    )
)
def test_any_bytes_are_unpacked_or_give_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    directory = tmp_path_factory.mktemp("any") / "inside"
    directory.mkdir()
    with suppress(ImageError):
        unpack(vib(data, "vgz"), directory)
    assert [path.name for path in directory.parent.iterdir()] == ["inside"]
