"""VIBs on their way into the depot library: taken apart, payloads hashed and compared with their descriptors.

The SHA-256 of a payload is its address among the blobs and the sum in the descriptor, so one pass over the bytes
stores and checks them. Knows records and blobs, neither locks nor directories.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from midwife.images.depot.formats.records import Origin, StoredPayload, VibRecord
from midwife.images.depot.kept.blobs import Blobs, BlobWriter
from midwife.images.depot.kept.stored import StoredVib
from midwife.images.depot.merge import differences
from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import Progress
from midwife.images.objects.package import Payload, SoftwarePackage, SoftwarePlatform
from midwife.images.vib.archives.payload import check_payload
from midwife.images.vib.content import Vib

__all__ = ["Intake", "own_platforms"]


_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Intake:
    """Stores VIBs one after another. ``total``: bytes of all their payloads, for ``progress``.

    ``lenient``: a payload that the source (an ISO, an image database) turns out not to have is noted, no error.
    """

    depot: str
    blobs: Blobs
    writer: BlobWriter
    total: int
    progress: Progress | None = None
    lenient: bool = False
    warnings: list[str] = field(default_factory=list)
    _done: int = 0
    _unproved: list[tuple[VibRecord, Payload]] = field(default_factory=list)

    def vib(self, vib: Vib, listed: SoftwarePackage, origin: Origin | None = None) -> VibRecord:
        """Its record. ``listed``: as the depot describes it. Raises ImageError, and OSError when writing."""
        package = vib.package
        if package.id != listed.id:
            raise FormatError(f"what should be the VIB {listed.id} is {package.id}; the source is damaged")
        if found := differences(listed, package):
            raise FormatError(
                f"{package.id} is not as its depot describes it: it differs in {', '.join(found)}; "
                "the source is damaged, get it again"
            )
        payloads = tuple(self._payload(vib, payload) for payload in package.payloads)
        record = VibRecord(
            id=package.id,
            descriptor=vib.descriptor,
            signature=vib.signature,
            headers=vib.headers,
            exact=vib.exact,
            payloads=payloads,
            platforms=own_platforms(package, listed),
            origin=origin,
        )
        for payload, stored in zip(package.payloads, payloads, strict=True):
            if stored.sha256 and payload.stored_checksum() is None:
                self._unproved.append((record, payload))
        return record

    def prove(self) -> None:
        """Once the blobs are there: check payloads that have no SHA-256 in the descriptor. Raises ImageError."""
        for record, payload in self._unproved:
            check_payload(StoredVib(self.depot, record, self.blobs), payload)

    def _payload(self, vib: Vib, payload: Payload) -> StoredPayload:
        where = f"{vib.package.id}: payload {payload.name}"
        expected = payload.stored_checksum()
        if expected is not None and not _SHA256.fullmatch(expected):
            raise FormatError(f"{where}: {expected[:80]!r} in its descriptor is no SHA-256")
        if expected is not None and self.writer.known(expected, payload.size):
            self._count(payload.size)
            return StoredPayload(payload.name, payload.size, expected)
        before = self._done
        try:
            found = self.writer.put(self._counted(vib, payload.name), expected, payload.size)
        except FormatError as error:
            raise FormatError(f"{where}: {error}; the source is damaged, get it again") from None
        except ImageError as error:
            if not self.lenient or self._done != before:
                raise
            if not vib.package.dpu_only:  # a whole set of VIBs that hosts don't need; the ISO told it at once
                self.warnings.append(str(error))
            found = ""
        return StoredPayload(payload.name, payload.size, found)

    def _counted(self, vib: Vib, payload: str) -> Iterator[bytes]:
        for chunk in vib.chunks(payload):
            yield chunk
            self._count(len(chunk))

    def _count(self, size: int) -> None:
        self._done += size
        if self.progress:
            self.progress(min(self._done, self.total), self.total)


def own_platforms(package: SoftwarePackage, listed: SoftwarePackage) -> tuple[SoftwarePlatform, ...]:
    """The depot's software platforms of a VIB that names none itself. Nothing else of its word is kept.

    Relations are believed of the VIB alone: its descriptor can be signed, a depot's metadata cannot.
    """
    return () if package.software_platforms else listed.software_platforms
