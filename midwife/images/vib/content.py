"""``Vib``: a VIB whose bytes can be had, wherever they are: in a .vib file, in the depot library, on an ISO.

Whoever verifies, extracts or exports VIBs asks this and nothing else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from midwife.images.flow import BLOCK
from midwife.images.objects.package import SoftwarePackage

__all__ = ["Vib"]


class Vib(Protocol):
    """A VIB and its payloads. Every method raises ImageError (FormatError for damaged bytes)."""

    @property
    def package(self) -> SoftwarePackage:
        """What its descriptor says."""

    @property
    def descriptor(self) -> bytes:
        """``descriptor.xml``: the exact bytes that were signed, if they can be had (``exact``)."""

    @property
    def signature(self) -> bytes:
        """``sig.pkcs7``; b"" for an unsigned VIB, or where it was lost."""

    @property
    def exact(self) -> bool:
        """False: the descriptor was written anew from a database, so no signature can be checked."""

    @property
    def headers(self) -> tuple[bytes, ...]:
        """The ar headers (60 bytes each) of the file it came in, in order: descriptor, signature, payloads.

        Empty if it came in no file. With them the same file can be written again.
        """

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        """The bytes of a payload as stored, at most ``block`` at a time; their number is the payload's size."""

    def path(self, payload: str) -> Path | None:
        """A file that holds exactly these bytes and is never changed, to link to; None if there is none."""
