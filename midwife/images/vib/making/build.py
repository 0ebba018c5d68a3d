"""Builds a VIB from a folder, so that a site can ship its own agent as a proper VIB.

The folder is the tree as it appears on the host. Same folder, same bytes: nobody's time, owner or order gets
in. Source of the form: community VIBs that ESXi 8.0 takes (one tgz payload, three sums); it was not signed,
so it stays at community level.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from midwife.images.disk import new_file
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK
from midwife.images.objects.package import Payload, SoftwarePackage
from midwife.images.vib.archives.payload import MAX_UNPACKED
from midwife.images.vib.container import write_vib
from midwife.images.vib.describe import write_descriptor
from midwife.images.vib.descriptor import parse_descriptor
from midwife.images.vib.limits import broken_limits, id_problem
from midwife.images.vib.making.folder import pack_folder, read_folder
from midwife.images.vib.making.spec import VibSpec
from midwife.images.vib.paths import broken_path_rules

__all__ = ["build_vib"]

_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
"""Every VIB that was seen has a date, so an undated one gets this rather than today's: same input, same bytes."""
_SHOWN = 20


def build_vib(folder: Path, out: Path, spec: VibSpec, *, force: bool = False) -> SoftwarePackage:
    """Writes ``out``; gives what the VIB's descriptor says. Nothing is left behind when it fails.

    Files become 0755 if somebody may execute them, else 0644 (and keep the sticky bit, by which ESXi knows files
    that it may change); everything is root's. Raises ImageError; for files that a VIB of that level must not
    bring too, unless ``force``: a host installs such a VIB with ``-f`` only.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ImageError(f"{out} is inside {folder}: the next build would pack it; write it somewhere else")
    entries = read_folder(folder)
    if (size := sum(entry.size for entry in entries)) > MAX_UNPACKED:
        raise ImageError(
            f"{folder} has {size:,} bytes in its files; a payload holds {MAX_UNPACKED:,} at most: is it the right "
            "folder?"
        )
    files = tuple(entry.path for entry in entries if not entry.directory)
    if not files:
        raise ImageError(f"{folder} has no files: a VIB brings at least one")
    draft = _package(spec, files, ())
    broken = (*broken_limits(draft), *broken_path_rules(draft))
    if problem := id_problem(draft):
        raise ImageError(problem)
    if broken and not force:
        raise ImageError(_told(broken))
    try:
        with tempfile.TemporaryFile(dir=out.parent) as body:
            payload = pack_folder(entries, body, spec.payload, spec.payload_type)
            package = _package(spec, files, (payload,))
            descriptor = write_descriptor(package)
            if parse_descriptor(descriptor).package != package:
                raise ImageError(f"{package.id}: the descriptor does not say what was asked; this is a bug")
            with new_file(out) as file:
                write_vib(file, _Built(package, descriptor, body))
    except OSError as error:
        raise ImageError(
            f"{out}: {error.filename or 'the VIB'} cannot be read or written: {error.strerror or error}"
        ) from None
    return package


def _told(broken: tuple[str, ...]) -> str:
    lines = [f"  {one}" for one in broken[:_SHOWN]]
    if len(broken) > _SHOWN:
        lines.append(f"  and {len(broken) - _SHOWN} more")
    text = "\n".join(lines)
    return (
        f"a host would refuse this VIB:\n{text}\n"
        "move the files (/opt/NAME takes anything), or build it with --force and install it with -f"
    )


def _package(spec: VibSpec, files: tuple[str, ...], payloads: tuple[Payload, ...]) -> SoftwarePackage:
    summary = spec.summary or spec.name
    return SoftwarePackage(
        name=spec.name,
        version_object=spec.version,
        vendor=spec.vendor,
        summary=summary,
        description=spec.description or summary,
        release_date=spec.release_date or _NO_DATE,
        reference_urls=spec.urls,
        depends=spec.depends,
        conflicts=spec.conflicts,
        replaces=spec.replaces,
        provides=spec.provides,
        tags=spec.tags,
        maintenance_mode=spec.maintenance_mode,
        maintenance_mode_remove=spec.maintenance_mode,
        hardware_platforms=spec.hwplatform,
        files=files,
        acceptance_level=spec.acceptance_level,
        live_install_ok=spec.live_install_allowed,
        live_remove_ok=spec.live_remove_allowed,
        cimom_restart=spec.cimom_restart,
        stateless_ready=spec.stateless_ready,
        payloads=payloads,
    )


@dataclass(frozen=True, slots=True)
class _Built:
    """The new VIB, as a ``Vib``."""

    package: SoftwarePackage
    descriptor: bytes
    body: IO[bytes]
    signature: bytes = b""
    exact: bool = True
    headers: tuple[bytes, ...] = ()

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        self.body.seek(0)
        while data := self.body.read(block):
            yield data

    def path(self, payload: str) -> Path | None:
        return None
