""".vib files: opened without their payloads, written byte for byte, refused where they contradict themselves."""

import hashlib
import io
import os
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.vib.ar import HEADER, MAGIC, make_header
from midwife.images.vib.container import VibFile, write_vib
from midwife.images.vib.content import Vib
from tests.images.vib.given import GivenVib, mutations, packages, payload_of, vib_of, written

GIVEN = vib_of((payload_of("one", "text", b"123"), b"123"), (payload_of("two", "text", b""), b""))
FILE = written(write_vib, GIVEN)


def opened(data: bytes) -> VibFile:
    return VibFile.from_stream(io.BytesIO(data), "a.vib")


def archive(*members: tuple[str, bytes]) -> bytes:
    return MAGIC + b"".join(
        make_header(name, len(body)) + body + b"\n" * (len(body) % 2) for name, body in members
    )


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        opened(data)
    assert str(caught.value).startswith("a.vib: ")


def test_a_vib_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "agent.vib"
    path.write_bytes(FILE)

    with VibFile(path) as vib:
        given: Vib = vib  # it is one
        assert given.package == GIVEN.package
        assert (given.descriptor, given.signature, given.exact) == (GIVEN.descriptor, b"", True)
        assert b"".join(given.chunks("one", 2)) == b"123"
        assert list(given.chunks("one", 2)) == [b"12", b"3"]
        assert list(given.chunks("two")) == []
        assert given.path("one") is None
        assert (vib.size, vib.warnings) == (len(FILE), ())
        with pytest.raises(ImageError, match="has no payload three; it has: one, two"):
            vib.chunks("three")
    with pytest.raises(ImageError, match="cannot read"):
        next(vib.chunks("one"))


def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot open .*: No such file"):
        VibFile(tmp_path / "missing.vib")
    with pytest.raises(ImageError, match=r"cannot (open|read) "):
        VibFile(tmp_path)


class CountingFile(io.BytesIO):
    """Adds up what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_opening_reads_no_payload() -> None:
    body = os.urandom(3_000_000)
    file = CountingFile(written(write_vib, vib_of((payload_of("big", "text", body), body))))

    with VibFile.from_stream(file, "big.vib") as vib:
        assert file.count < 10_000
        assert hashlib.sha256(b"".join(vib.chunks("big"))).digest() == hashlib.sha256(body).digest()


def test_several_payloads_are_read_at_a_time() -> None:
    bodies = {"one": os.urandom(200_000), "two": os.urandom(200_000)}
    given = vib_of(*((payload_of(name, "text", body), body) for name, body in bodies.items()))
    found: dict[str, bytes] = {}

    with opened(written(write_vib, given)) as vib:
        for first, second in zip(vib.chunks("one", 4096), vib.chunks("two", 4096), strict=True):
            found["one"] = found.get("one", b"") + first
            found["two"] = found.get("two", b"") + second
        assert found == bodies

        def read(name: str) -> None:
            found[name] = b"".join(vib.chunks(name, 512))

        found.clear()
        threads = [threading.Thread(target=read, args=(name,)) for name in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == bodies


def test_a_vib_inside_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("vib20/agent.vib", FILE)
    with (
        zipfile.ZipFile(tmp_path / "bundle.zip") as bundle,
        VibFile.from_stream(bundle.open("vib20/agent.vib"), "bundle.zip: vib20/agent.vib") as vib,  # type: ignore[arg-type]
    ):
        assert b"".join(vib.chunks("one")) == b"123"


def test_a_damaged_zip_is_told(tmp_path: Path) -> None:
    noise = os.urandom(50_000)
    vib_file = written(write_vib, vib_of((payload_of("noise", "text", noise), noise)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("a.vib", vib_file)
    damaged = bytearray(packed.getvalue())
    damaged[40_000] ^= 1
    with (
        zipfile.ZipFile(io.BytesIO(damaged)) as bundle,
        pytest.raises(ImageError, match=r"cannot read a\.vib: .*CRC"),
        VibFile.from_stream(bundle.open("a.vib"), "a.vib") as vib,  # type: ignore[arg-type]
    ):
        list(vib.chunks("noise"))


def test_a_vib_without_a_signature_member_is_unsigned() -> None:
    data = archive(("descriptor.xml", GIVEN.descriptor), ("one", b"123"), ("two", b""))
    with opened(data) as vib:
        assert vib.signature == b""
        assert vib.warnings[0] == "a.vib: has no member sig.pkcs7; it counts as unsigned"
        assert written(write_vib, vib) == data


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([], "an empty ar archive"),
        ([("debian-binary", b"2.0\n")], "an ESX 4 package"),
        ([("sig.pkcs7", b""), ("descriptor.xml", GIVEN.descriptor)], "the first member is sig.pkcs7"),
        ([("descriptor.xml", b"<vib/>")], "descriptor.xml: element name is missing"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b"")], "lacks the payload one, two"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("one", b"123")], "lacks the payload two"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("two", b""), ("one", b"123")],
         "in the order two, one, but its descriptor lists one, two"),
        ([("descriptor.xml", GIVEN.descriptor), ("one", b"123"), ("sig.pkcs7", b""), ("two", b"")],
         "has the member sig.pkcs7 that its descriptor does not list"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("one", b"123"), ("two", b""), ("x", b"")],
         "has the member x that"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("one", b"123"), ("two", b""), ("one", b"")],
         "two members are called one"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("one", b"12"), ("two", b"")],
         "payload one has 2 bytes; its descriptor says 3"),
        ([("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", bytes(2_000_000))], "sig.pkcs7 has 2,000,000 bytes"),
        ([("descriptor.xml", bytes(9_000_000))], "descriptor.xml has 9,000,000 bytes"),
    ],
)  # fmt: skip
def test_files_that_contradict_themselves(members: list[tuple[str, bytes]], reason: str) -> None:
    refused(archive(*members), reason)


def test_canonical_headers() -> None:
    assert FILE[8:68] == b"descriptor.xml  0           0     0     100644  %-10d`\n" % len(GIVEN.descriptor)
    assert written(write_vib, GIVEN) == FILE


def test_the_original_headers_come_back() -> None:
    """GNU names, times, modes of a Python bug: a signed VIB's file is the same again."""
    signature = b"-----BEGIN PKCS7-----\n"
    names = {"descriptor.xml": GIVEN.descriptor, "sig.pkcs7": signature, "one": b"123", "two": b""}
    data = MAGIC + b"".join(
        b"%-16b%-12d0     0     0o0     %-10d`\n" % (name.encode() + b"/", 1556630400, len(body))
        + body
        + b"\n" * (len(body) % 2)
        for name, body in names.items()
    )
    with opened(data) as vib:
        assert vib.signature == signature
        out = io.BytesIO()
        assert write_vib(out, vib) == (len(data), hashlib.sha256(data).hexdigest())
        assert out.getvalue() == data


def test_headers_are_not_kept_if_they_are_not_the_whole_truth() -> None:
    odd = archive(("descriptor.xml", GIVEN.descriptor), ("sig.pkcs7", b""), ("one", b"123"), ("two", b""))
    odd = odd.replace(b"123\n", b"123\0")
    with opened(odd) as vib:
        assert vib.headers == ()
        assert vib.warnings == ("a.vib: the padding after one is missing or is no line feed",)
        assert written(write_vib, vib) == FILE


def test_a_payload_of_another_size_is_not_written() -> None:
    for body in (b"12", b"1234"):
        vib = GivenVib(GIVEN.package, {"one": body, "two": b""})
        with pytest.raises(FormatError, match="payload one does not have the 3 bytes"):
            written(write_vib, vib)


def test_headers_of_another_file_are_refused() -> None:
    for headers in ((make_header("descriptor.xml", 1),), (b"x" * HEADER,) * 4):
        with pytest.raises(FormatError, match="headers that were kept do not fit"):
            written(write_vib, GivenVib(GIVEN.package, GIVEN.bodies, headers=headers))


@settings(max_examples=50)
@given(packages, st.data())
def test_what_is_written_is_read_back(package: SoftwarePackage, data: st.DataObject) -> None:
    small = tuple(replace(one, size=one.size % 50) for one in package.payloads)
    package = replace(package, payloads=small)
    bodies = {one.name: data.draw(st.binary(min_size=one.size, max_size=one.size)) for one in small}
    given = GivenVib(package, bodies, signature=data.draw(st.binary(max_size=9)))

    with opened(written(write_vib, given)) as vib:
        assert vib.package == package
        assert (vib.descriptor, vib.signature) == (given.descriptor, given.signature)
        assert {name: b"".join(vib.chunks(name)) for name in bodies} == bodies


@settings(max_examples=150)
@given(mutations(FILE))
def test_any_bytes_give_a_vib_or_a_format_error(data: bytes) -> None:
    try:
        vib = opened(data)
    except FormatError:
        return
    with vib:
        assert [len(b"".join(vib.chunks(one.name))) for one in vib.package.payloads] == [
            one.size for one in vib.package.payloads
        ]
