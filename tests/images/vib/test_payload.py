"""Payloads: packed by other programs, unpacked in small pieces, every kind of sum checked, bombs stopped."""

import gzip
import hashlib
import os
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Checksum, Payload
from midwife.images.vib.archives.payload import check_payload, preferred_checksum, unpacked
from tests.images.vib.given import mutations, payload_of, stored_zip, sums, vib_of, zipped, zstd_as_esxi

TEXT = b"".join(b"line %d of a module\n" % number for number in range(20_000))
ZIPPED = zipped(TEXT)
VZSTD = stored_zip(zstd_as_esxi(TEXT))


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def inside(data: bytes, type: str, size: int = 1000, limit: int = 1 << 32) -> bytes:
    return b"".join(unpacked(pieces(data, size), type, limit))


def refused(data: bytes, type: str, reason: str, limit: int = 1 << 32) -> None:
    with pytest.raises(FormatError, match=reason):
        inside(data, type, limit=limit)


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_whatever_the_pieces(size: int) -> None:
    short = TEXT[:3000]
    assert inside(zipped(short), "vgz", size) == short
    assert inside(stored_zip(zstd_as_esxi(short)), "vzstd", size) == short


@pytest.mark.parametrize("type", ["vgz", "tgz", "boot", "installer_vgz"])
def test_gzip_types(type: str) -> None:
    assert inside(ZIPPED, type) == TEXT


def test_zstd_of_several_frames_and_kinds() -> None:
    """Frames with and without sizes and sums, blocks that repeat one byte, a frame that is to be skipped."""
    noise = random.Random(1).randbytes(300_000)
    small = zstandard.ZstdCompressor(level=19).compress(TEXT)
    skipped = b"\x53\x2a\x4d\x18" + (200_000).to_bytes(4, "little") + bytes(200_000)
    frames = (
        zstd_as_esxi(TEXT)
        + small
        + skipped
        + zstd_as_esxi(noise)
        + zstd_as_esxi(b"")
        + zstd_as_esxi(bytes(10**6))
    )
    assert inside(stored_zip(frames), "vzstd") == TEXT + TEXT + noise + bytes(10**6)


def test_raw_types_pass() -> None:
    assert inside(ZIPPED, "text") == ZIPPED
    assert inside(b"", "boot_loader_efi") == b""
    assert inside(b"\x7fELF, not packed", "boot", 1) == b"\x7fELF, not packed"
    assert inside(b"", "boot") == b""


def test_a_signature_after_the_gzip_stream_is_ignored() -> None:
    for trailer in (os.urandom(300), bytes(512), b"\x1f", b"\x1f\x8b"):
        assert inside(ZIPPED + trailer, "boot") == TEXT
        assert inside(stored_zip(zstd_as_esxi(TEXT) + trailer), "vzstd") == TEXT


def test_gzip_of_several_members_and_with_a_name() -> None:
    """As `gzip` and `cat` make it."""
    named = b"\x1f\x8b\x08\x08\x46\xee\xb4\x5b\0\x03payload1\0" + ZIPPED[10:]
    for size in (1, 5, len(named)):
        assert inside(named + zipped(b"") + zipped(b"more"), "vgz", size) == TEXT + b"more"


def test_an_empty_module_of_20_bytes() -> None:
    empty = zipped(b"")
    assert (len(empty), inside(empty, "boot")) == (20, b"")


@pytest.mark.parametrize("type", ["vgz", "vzstd"])
def test_truncation_is_noticed_wherever_it_is(type: str) -> None:
    whole = zipped(TEXT[:2000]) if type == "vgz" else VZSTD
    for end in (*range(30), *random.Random(2).sample(range(30, len(whole)), 60), len(whole) - 1):
        refused(whole[:end], type, "truncated|does not start like")


def test_a_zstd_frame_that_ends_early_inside_a_whole_gzip() -> None:
    frame = zstd_as_esxi(TEXT)
    for end in (0, 3, 5, 8, 100, len(frame) - 4, len(frame) - 1):
        refused(stored_zip(frame[:end]), "vzstd", "truncated|does not start like")


def test_damage() -> None:
    broken = bytearray(ZIPPED)
    broken[len(broken) // 2] ^= 0x55
    refused(bytes(broken), "vgz", "damaged gzip")
    frame = bytearray(zstd_as_esxi(TEXT))
    frame[-1] ^= 1  # its checksum
    refused(stored_zip(bytes(frame)), "vzstd", "damaged")
    refused(stored_zip(ZIPPED), "vzstd", "does not start like zstd")
    refused(TEXT, "vgz", "does not start like a gzip")
    huge_window = b"\x28\xb5\x2f\xfd\x00\xf0" + b"\x01\0\0"
    refused(stored_zip(huge_window), "vzstd", "damaged: .*memory")


def counted(chunks: Iterable[bytes], largest: list[int]) -> Iterator[bytes]:
    for chunk in chunks:
        largest[0] = max(largest[0], len(chunk))
        yield chunk


def test_bombs_come_in_small_pieces_and_stop_at_the_limit() -> None:
    """A gigabyte of NULs in a megabyte of gzip; four gigabytes in 128 KiB of zstd."""
    packer = zlib.compressobj(9, wbits=31)
    gzip_bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    repeat = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    zstd_bomb = stored_zip(b"\x28\xb5\x2f\xfd\x00\x88" + repeat * 32_768 + b"\x01\0\0")
    for bomb, type in ((gzip_bomb, "vgz"), (zstd_bomb, "vzstd")):
        largest = [0]
        with pytest.raises(FormatError, match="unpacks to more than 50,000,000 bytes"):
            for _ in counted(unpacked([bomb], type, 50_000_000), largest):
                pass
        assert 0 < largest[0] <= BLOCK


def check(payload: Payload, body: bytes, *, every: bool = False) -> None:
    check_payload(vib_of((payload, body)), payload, every=every)


def wrong(payload: Payload, body: bytes, reason: str, *, every: bool = True) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        check(payload, body, every=every)
    assert str(caught.value).startswith("Lab_bootbank_agent_1.0-1: payload p")


BAD = "0" * 64


def test_every_sum_of_every_kind() -> None:
    check(payload_of("p", "vgz", ZIPPED, TEXT), ZIPPED, every=True)
    check(payload_of("p", "text", TEXT), TEXT, every=True)
    frame = zstd_as_esxi(TEXT)
    one_layer = Checksum("sha-256-gunzip1", hashlib.sha256(frame).hexdigest())
    nine = payload_of("p", "vzstd", VZSTD, TEXT)
    nine = replace(nine, checksums=(*nine.checksums, one_layer))
    check(nine, VZSTD, every=True)

    for number, one in enumerate(nine.checksums):
        broken = [*nine.checksums]
        broken[number] = replace(one, value=BAD)
        wrong(replace(nine, checksums=tuple(broken)), VZSTD, f"{one.kind}( \\(gunzip\\))? is .* says {BAD}")


def test_without_every_only_the_stored_bytes_are_hashed() -> None:
    """A wrong sum over the unpacked bytes goes by, and nothing is unpacked."""
    stored, other = sums(ZIPPED)[0], Checksum("sha-1", BAD, "gunzip")
    check(Payload("p", "vgz", len(ZIPPED), (other, stored)), ZIPPED)
    check(Payload("p", "vgz", len(TEXT), sums(TEXT)), TEXT)
    wrong(Payload("p", "vgz", len(ZIPPED), (replace(stored, value=BAD),)), ZIPPED, "sha-256 is", every=False)


def test_which_sum_is_preferred() -> None:
    stored_1, stored_256 = Checksum("sha-1", "a"), Checksum("sha-256", "b")
    inner_1, inner_256 = Checksum("sha-1", "c", "gunzip"), Checksum("sha-256", "d", "gunzip")
    mle, tomorrow = Checksum("sha-256", "e", "txt-mle"), Checksum("sha-1024", "f")

    def preferred(*checksums: Checksum, type: str = "vgz") -> Checksum | None:
        return preferred_checksum(Payload("p", type, 1, checksums))

    assert preferred(mle, inner_1, stored_1, stored_256, inner_256) == stored_256
    assert preferred(inner_256, stored_1) == stored_1
    assert preferred(inner_1, inner_256, tomorrow) == inner_256
    assert preferred(mle, tomorrow) is None
    assert preferred(inner_256, type="text") is None


def test_if_there_is_only_the_unpacked_sum_it_is_checked() -> None:
    only = Payload("p", "vgz", len(ZIPPED), (sums(ZIPPED, TEXT)[2],))
    check(only, ZIPPED)
    other = zipped(TEXT[1:])
    wrong(replace(only, size=len(other)), other, r"sha-1 \(gunzip\) is", every=False)


def test_sums_that_nobody_can_compute_are_left_out() -> None:
    odd = (Checksum("sha-256", BAD, "txt-mle"), Checksum("sha-1024", BAD), Checksum("sha-256-gunzip1", BAD))
    check(Payload("p", "text", len(TEXT), (*odd, *sums(TEXT))), TEXT, every=True)
    check(Payload("p", "text", len(TEXT), odd), TEXT, every=True)


def test_sizes() -> None:
    payload = payload_of("p", "vgz", ZIPPED, TEXT)
    size = f"{len(ZIPPED):,}"
    for every in (True, False):
        wrong(payload, ZIPPED[:-1], f"has {len(ZIPPED) - 1:,} bytes; the descriptor says {size}", every=every)
        wrong(
            payload, ZIPPED + b"x", f"has {len(ZIPPED) + 1:,} bytes; the descriptor says {size}", every=every
        )


def test_the_stored_sum_says_more_than_a_decompressor() -> None:
    broken = ZIPPED[:5000] + bytes(100) + ZIPPED[5100:]
    wrong(payload_of("p", "vgz", ZIPPED, TEXT), broken, "sha-256 is")
    wrong(Payload("p", "vgz", len(broken), (*sums(broken), sums(b"", b"")[2])), broken, "damaged gzip")


def test_a_boot_payload_with_its_signature() -> None:
    body = ZIPPED + os.urandom(100)
    check(payload_of("p", "boot", body, TEXT), body, every=True)
    check(payload_of("p", "boot", TEXT, TEXT), TEXT, every=True)


SHORT = {"vgz": zipped(TEXT[:500]), "vzstd": stored_zip(zstd_as_esxi(TEXT[:500])), "boot": gzip.compress(b"")}


@settings(max_examples=150)
@given(st.sampled_from(sorted(SHORT)).flatmap(
    lambda type: st.tuples(st.just(type), st.one_of(st.binary(max_size=40), mutations(SHORT[type])))
))  # fmt: skip
def test_any_bytes_unpack_or_give_a_format_error(given: tuple[str, bytes]) -> None:
    type, data = given
    try:
        assert len(inside(data, type, limit=1 << 20)) <= 1 << 20
    except FormatError as error:
        assert "the payload" in str(error)  # noqa: PT017


@settings(max_examples=150)
@given(mutations(zstd_as_esxi(TEXT[:200])))
def test_any_zstd_unpacks_or_gives_a_format_error(data: bytes) -> None:
    """Not stopped by gzip's sum before."""
    try:
        assert len(inside(stored_zip(data), "vzstd", limit=1 << 20)) <= 1 << 20
    except FormatError as error:
        assert "the payload" in str(error)  # noqa: PT017
