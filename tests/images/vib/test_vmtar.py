"""vmtar: real archives byte for byte, archives that lie, and what passes through memory."""

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError
from midwife.images.vib.archives.payload import unpacked
from midwife.images.vib.archives.tarhead import TarEntry
from midwife.images.vib.archives.vmtar import VmtarReader, write_vmtar
from midwife.images.vib.container import VibFile
from tests.images.vib.given import DATA, REAL_VIBS, mutations, written

DIRECTORY = TarEntry("etc", "5", mode=0o755)
CONFIG = TarEntry("etc/config", "0", 5, 0o1644, mtime=1556630400, uid=201, gid=201, uname="mts", gname="mts")
PROGRAM = TarEntry("etc/program", "7", 5000, 0o755, code=(12288, 4096, 1))
LINK = TarEntry("etc/link", "2", link="program", mode=0o777)
EMPTY = TarEntry("etc/empty", "0", 0)
BODIES = {"etc/config": b"x = 1", "etc/program": bytes(range(250)) * 20, "etc/empty": b""}


def body_of(entry: TarEntry) -> Iterable[bytes]:
    body = BODIES[entry.name]
    return (body[at : at + 999] for at in range(0, len(body), 999))


def vmtar(*entries: TarEntry, align: int = 4096) -> bytes:
    return written(write_vmtar, entries, body_of, align=align)


def reader(data: bytes, size: int = 700) -> VmtarReader:
    return VmtarReader((data[at : at + size] for at in range(0, len(data), size)), "payload one")


def contents(data: bytes) -> dict[str, bytes]:
    return {
        entry.name: content
        for entries, chunks in reader(data).contents()
        for content in [b"".join(chunks)]
        for entry in entries
    }


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        contents(data)
    assert str(caught.value).startswith("payload one: ")


def at_offset(data: bytes, number: int, offset: int) -> bytes:
    """The archive with another offset in its header ``number``, and the checksum that belongs to it."""
    changed = bytearray(data)
    block = slice(512 * number, 512 * (number + 1))
    header = bytearray(changed[block])
    struct.pack_into("<I", header, 496, offset)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    changed[block] = header
    return bytes(changed)


WHOLE = vmtar(DIRECTORY, CONFIG, PROGRAM, LINK, EMPTY)


def test_headers_first_contents_at_pages() -> None:
    entries = reader(WHOLE).entries

    assert [replace(entry, offset=0) for entry in entries] == [DIRECTORY, CONFIG, PROGRAM, LINK, EMPTY]
    assert [entry.offset for entry in entries] == [0, 4096, 8192, 0, 0]
    assert WHOLE[4096:4101] == b"x = 1"
    assert len(WHOLE) == 8192 + 5000
    assert contents(WHOLE) == BODIES


def test_the_header_as_real_tools_write_it() -> None:
    header = WHOLE[512:1024]
    assert header[:12] == b"etc/config\0\0"
    assert header[100:148] == b"0001644\x000000311\x000000311\x0000000000005\x0013462045600\x00"[:48]
    assert (header[154:157], header[257:265]) == (b"\0 0", b"visor  \0")
    assert WHOLE[:5] == b"etc/\0"


@pytest.mark.parametrize(
    "path", [path for path in REAL_VIBS if "ghetto" in path.name], ids=lambda path: path.name[:8]
)
def test_real_archives_are_written_again_byte_for_byte(path: object) -> None:
    """Those of VMware's tool of 2018 to 2020, with contents at every 512 bytes."""
    with VibFile(path) as vib:  # type: ignore[arg-type]
        data = b"".join(unpacked(vib.chunks("payload1"), "vgz"))
    bodies = contents(data)
    again = written(write_vmtar, reader(data).entries, lambda entry: [bodies[entry.name]], align=512)
    assert again == data


def test_a_real_module_of_type_7() -> None:
    with VibFile(DATA / "thgpio/thgpio-0.1.0-1OEM.701.1.0.40650718.aarch64.vib") as vib:
        data = b"".join(unpacked(vib.chunks("thgpio"), "vgz"))
    module = reader(data).entries[-1]
    assert (module.name, module.kind, module.offset) == ("usr/lib/vmware/vmkmod/thgpio", "7", 12288)
    assert contents(data)[module.name].startswith(b"\x7fELF")


def test_signed_and_unsigned_checksums() -> None:
    """They differ where a byte of the offset is 0x80 or higher."""
    data = vmtar(replace(CONFIG, name="etc/config"), *[PROGRAM] * 9)
    high = next(number for number, entry in enumerate(reader(data).entries) if entry.offset & 0x8080)
    assert reader(at_offset(data, high, reader(data).entries[high].offset)).entries == reader(data).entries

    wrong = bytearray(data)
    wrong[148:156] = b"000001\0 "
    refused(bytes(wrong), "entry 1: .* checksum is wrong")


def test_long_names_and_links_of_older_tools() -> None:
    def long(kind: str, text: bytes) -> bytes:
        header = bytearray(vmtar(TarEntry("././@LongLink", "0", 0))[:512])
        header[124:136] = b"%011o\0" % len(text)
        header[156:157] = kind.encode()
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + text.ljust(512, b"\0")

    name, target = b"etc/" + b"n" * 200, b"t" * 300 + b"\0"
    headers = long("L", name) + long("K", target) + vmtar(LINK)[:512] + vmtar(CONFIG)[:512]
    data = at_offset(headers + bytes(512) + b"x = 1", 5, len(headers) + 512)

    found = reader(data).entries
    assert [(entry.name, entry.link) for entry in found] == [(name.decode(), "t" * 300), ("etc/config", "")]
    refused(long("L", bytes(600)), "a name of 600 bytes")


def test_contents_that_are_shared_come_once() -> None:
    twin = replace(CONFIG, name="etc/program")
    data = at_offset(vmtar(CONFIG, replace(twin, name="etc/config")), 1, 4096)
    groups = [
        ([entry.name for entry in entries], b"".join(chunks)) for entries, chunks in reader(data).contents()
    ]
    assert groups == [(["etc/config", "etc/config"], b"x = 1")]


def test_contents_that_are_not_read_are_left_out() -> None:
    found = {}
    for entries, chunks in reader(WHOLE).contents():
        if entries[0].name == "etc/program":
            found["start"] = next(chunks)
    assert BODIES["etc/program"].startswith(found["start"])


def test_offsets_that_lie() -> None:
    refused(at_offset(WHOLE, 1, 0), "'etc/config' lies over headers")
    refused(at_offset(WHOLE, 1, 512), "'etc/config' lies over headers")
    refused(at_offset(WHOLE, 1, 8193), "'etc/config' lies over headers or other contents")
    refused(at_offset(WHOLE, 1, 0xFFFFFFFF), "truncated")
    refused(at_offset(WHOLE, 2, 8193), "truncated")


def test_truncation_at_every_block() -> None:
    for end in (*range(512, len(WHOLE), 512), 100, 513, len(WHOLE) - 1):
        refused(WHOLE[:end], "truncated")
    refused(vmtar(DIRECTORY)[:512], "truncated")
    assert reader(b"").entries == ()


def test_an_ordinary_tar_is_no_vmtar() -> None:
    refused(WHOLE.replace(b"visor  \0", b"ustar  \0"), "entry 1: no vmtar header")


def test_a_big_archive_passes_in_pieces() -> None:
    """No more is asked of the stream than the headers, until contents are wanted."""
    size = 40 << 20
    entry = replace(CONFIG, size=size)
    head = written(write_vmtar, [replace(CONFIG)], lambda _: [b"x = 1"])[:4096]
    head = bytearray(head)
    head[124:136] = b"%011o\0" % size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    taken = [0]

    def stream() -> Iterator[bytes]:
        yield bytes(head)
        for _ in range(size >> 20):
            taken[0] += 1
            yield bytes(1 << 20)

    big = VmtarReader(stream(), "big")
    assert (big.entries, taken) == ((replace(entry, offset=4096),), [0])
    for _, chunks in big.contents():
        assert max(len(chunk) for chunk in chunks) <= 1 << 20
    assert taken == [40]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (replace(CONFIG, name="n" * 100), "more than 99 bytes"),
        (replace(DIRECTORY, name="n" * 99), "more than 99 bytes"),
        (replace(CONFIG, name="a\0b"), "a NUL in it"),
        (replace(CONFIG, name="\ud800"), "cannot be written as UTF-8"),
        (replace(LINK, link="n" * 100), "more than 99 bytes"),
        (replace(CONFIG, uid=1 << 30), "does not fit"),
        (replace(CONFIG, mtime=-1), "does not fit"),
        (replace(CONFIG, size=1 << 32), "larger than 4 GiB"),
        (replace(CONFIG, size=6), "does not have the 6 bytes"),
        (replace(CONFIG, kind="3"), "type '3' is never written"),
    ],
)
def test_what_is_not_written(entry: TarEntry, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        write_vmtar(io.BytesIO(), [entry], lambda _: [b"x = 1"])


_names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30
).filter(lambda name: not name.endswith("/") and len(name.encode()) < 99)
_numbers = st.integers(0, 0o7777777)
_entries = st.lists(
    st.builds(
        TarEntry, _names, st.sampled_from("0725"), st.integers(0, 2000), st.integers(0, 0o7777), _names,
        st.integers(0, 1 << 32), _numbers, _numbers, st.just("root"), st.just("mts"),
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=150)
@given(_entries, st.sampled_from([512, 4096]))
def test_what_is_written_is_read_back(entries: list[TarEntry], align: int) -> None:
    entries = [entry if entry.is_file else replace(entry, size=0) for entry in entries]
    bodies = [bytes([number]) * entry.size for number, entry in enumerate(entries, 1)]
    order = iter([body for body in bodies if body])
    data = written(write_vmtar, entries, lambda _: [next(order)], align=align)

    found = reader(data)
    assert [replace(entry, offset=0) for entry in found.entries] == entries
    read = {group[0].offset: b"".join(chunks) for group, chunks in found.contents()}
    assert [read[entry.offset] for entry in found.entries if entry.size] == [body for body in bodies if body]


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=600), mutations(vmtar(DIRECTORY, CONFIG, LINK, align=512))))
def test_any_bytes_give_entries_or_a_format_error(data: bytes) -> None:
    try:
        found = contents(data)
    except FormatError:
        return
    assert sum(map(len, found.values())) <= len(data) * max(len(found), 1)
