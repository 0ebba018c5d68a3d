"""What the tests of VIB formats are given: a VIB out of a dictionary, packed payloads, generated packages."""

import gzip
import hashlib
import io
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import zstandard
from hypothesis import strategies as st

from midwife.images.flow import BLOCK
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import RELATIONS, SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import (
    Checksum,
    HardwarePlatform,
    Payload,
    ReferenceUrl,
    SoftwarePackage,
    SoftwarePlatform,
)
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.describe import write_descriptor

DATA = Path(__file__).parents[2] / "data"
REAL_VIBS = sorted(DATA.glob("**/*.vib"))
REAL_BUNDLES = sorted(
    [*DATA.glob("ghettoVCB/*.zip"), *DATA.glob("thgpio/**/*.zip"), *DATA.glob("packer/*.zip")]
)


@dataclass
class GivenVib:
    """A ``Vib`` whose payloads are in memory."""

    package: SoftwarePackage
    bodies: dict[str, bytes]
    signature: bytes = b""
    headers: tuple[bytes, ...] = ()
    exact: bool = True
    descriptor: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.descriptor = write_descriptor(self.package)

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        body = self.bodies[payload]
        return (body[at : at + block] for at in range(0, len(body), block))

    def path(self, payload: str) -> Path | None:
        return None


def sums(body: bytes, inside: bytes | None = None) -> tuple[Checksum, ...]:
    """The three sums of VMware's tools; without ``inside`` that of raw types."""
    stored = (Checksum("sha-256", hashlib.sha256(body).hexdigest()),)
    if inside is None:
        return stored
    return (
        Checksum("sha-256", hashlib.sha256(inside).hexdigest(), "gunzip"),
        *stored,
        Checksum("sha-1", hashlib.sha1(inside, usedforsecurity=False).hexdigest(), "gunzip"),
    )


def payload_of(name: str, type: str, body: bytes, inside: bytes | None = None) -> Payload:
    return Payload(name, type, len(body), sums(body, inside))


def vib_of(*payloads: tuple[Payload, bytes], **attributes: object) -> GivenVib:
    package = SoftwarePackage(
        "agent",
        SoftwareVersion.parse("1.0-1"),
        "Lab",
        payloads=tuple(payload for payload, _ in payloads),
        **attributes,  # type: ignore[arg-type]
    )
    return GivenVib(package, {payload.name: body for payload, body in payloads})


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def stored_zip(data: bytes) -> bytes:
    """gzip that only stores, as around the zstd of ESXi 9."""
    packer = zlib.compressobj(0, wbits=31)
    return packer.compress(data) + packer.flush()


def zstd_as_esxi(data: bytes) -> bytes:
    """A frame without its size and with a window of 128 MiB."""
    settings = zstandard.ZstdCompressionParameters(
        window_log=27, write_content_size=False, write_checksum=True
    )
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return packer.compress(data) + packer.flush()


def written(write: object, *arguments: object, **options: object) -> bytes:
    """What a function writes into its first argument, a file."""
    out = io.BytesIO()
    assert callable(write)
    write(out, *arguments, **options)
    return out.getvalue()


# Generated packages: whatever the objects allow, XML can hold, and stripping leaves alone. ------------------
_XML = st.characters(
    exclude_categories=("Cs", "Cc"), include_characters="\t\n\r", exclude_characters="\ufffe\uffff"
)
prose = st.text(_XML, max_size=30).map(str.strip)
_word = st.text(string.ascii_letters + string.digits + "-_.+: äß", min_size=1, max_size=12).map(str.strip)
words = _word.filter(lambda word: word not in ("", ".", ".."))
versions = st.from_regex(r"[0-9a-zA-Z.]{1,8}(-[0-9a-zA-Z.]{1,8})?", fullmatch=True).map(SoftwareVersion.parse)
constraints = st.one_of(
    st.builds(SoftwareConstraint, words),
    st.builds(SoftwareConstraint, words, st.sampled_from(RELATIONS), versions),
)
payload_names = st.from_regex(r"[0-9A-Za-z_-]{1,15}", fullmatch=True)
checksums = st.builds(
    Checksum,
    st.sampled_from(["sha-256", "sha-1", "sha-256-gunzip1", "crc-of-tomorrow"]),
    st.text("0123456789abcdef", max_size=64),
    st.sampled_from([None, "gunzip", "txt-mle"]),
)
payloads = st.builds(
    Payload,
    payload_names,
    st.sampled_from(["vgz", "tgz", "boot", "vzstd", "of-tomorrow"]),
    st.integers(0, 10**10 - 1),
    st.lists(checksums, max_size=3).map(tuple),
    st.one_of(st.none(), st.integers(-5, 200)),
    st.sampled_from([None, "jumpstrt.gz", "B.B00"]),
    st.lists(st.tuples(st.sampled_from(["uncompressed-size", "compression-option"]), words),
             max_size=2, unique_by=lambda one: one[0]).map(tuple),
)  # fmt: skip
_several = {"max_size": 2}
packages = st.builds(
    SoftwarePackage,
    name=words,
    version_object=versions,
    vendor=words,
    type=st.sampled_from(["bootbank", "locker", "meta", "of-tomorrow"]),
    summary=prose,
    description=prose,
    release_date=st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))),
    reference_urls=st.lists(st.builds(ReferenceUrl, prose, prose), **_several).map(tuple),
    depends=st.lists(constraints, **_several).map(tuple),
    conflicts=st.lists(constraints, **_several).map(tuple),
    replaces=st.lists(constraints, **_several).map(tuple),
    compatible_with=st.lists(constraints, **_several).map(tuple),
    provides=st.lists(st.builds(SoftwareProvide, words, st.none() | versions), **_several).map(tuple),
    tags=st.lists(prose.filter(bool), **_several).map(tuple),
    maintenance_mode=st.booleans(),
    maintenance_mode_remove=st.booleans(),
    hardware_platforms=st.lists(st.builds(HardwarePlatform, words, prose), **_several).map(tuple),
    software_platforms=st.lists(st.builds(SoftwarePlatform, words, prose, prose), **_several).map(tuple),
    files=st.lists(prose.map(lambda path: path.lstrip("/").strip()).filter(bool), **_several).map(
        lambda paths: tuple(path for path in paths if not path.startswith("/"))
    ),
    acceptance_level=st.sampled_from(AcceptanceLevel),
    live_install_ok=st.booleans(),
    live_remove_ok=st.booleans(),
    cimom_restart=st.booleans(),
    stateless_ready=st.booleans(),
    overlay=st.booleans(),
    payloads=st.lists(payloads, max_size=3, unique_by=lambda one: one.name).map(tuple),
)
"""Whole packages."""


def mutations(valid: bytes) -> st.SearchStrategy[bytes]:
    """A valid file, cut, or with bytes changed, left out or put in."""
    places = st.integers(0, len(valid))
    change = st.tuples(places, st.integers(0, 12), st.binary(max_size=12))

    def changed(changes: list[tuple[int, int, bytes]], end: int) -> bytes:
        data = valid[:end]
        for at, length, new in changes:
            data = data[:at] + new + data[at + length :]
        return data

    return st.builds(changed, st.lists(change, max_size=4), st.one_of(st.just(len(valid)), places))
