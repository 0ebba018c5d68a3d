"""An image database (``imgdb.tgz``) by itself as a depot: what a host or an ISO has, without a payload.

Descriptors and signatures are all there from ESXi 6.5 on, so profiles can be compared and validated; a payload has
the library if another depot brought it. Knows nothing of ISOs.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.imgdb import DatabaseVib, KnownVib, read_imgdb
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile

__all__ = ["DatabaseDepot"]


class DatabaseDepot(AbstractContextManager["DatabaseDepot"]):
    """Implements Depot. Raises ImageError only; reading a payload always does."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.source = str(path)
        self._read = read_imgdb(path, str(path))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    @cached_property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return {vib_id: vib.package for vib_id, vib in self._read.vibs.items()}

    @property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """The one."""
        return (self._read.profile,)

    @property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """A database has none."""
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated."""
        return self._read.warnings

    def vib(self, vib_id: str) -> "_Vib":
        """Raises ImageError for an id that is not in the profile."""
        if vib_id not in self._read.vibs:
            raise ImageError(f"{self.source} holds no VIB {vib_id!r}")
        return _Vib(self.source, self._read.vibs[vib_id])


@dataclass(frozen=True, slots=True)
class _Vib(KnownVib):
    """Implements Vib."""

    _source: str
    _known: DatabaseVib

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        raise ImageError(
            f"{self._source} is an image database: it has descriptors and no payloads; what no other depot has "
            "of its VIBs can be compared and validated, not exported"
        )
