"""Everything that is wrong with one VIB at once: signature, payloads, files, limits of the schema.

Reads each payload once, files of communities and partners twice. Whether it fits a profile is not known here.
"""

from collections.abc import Iterator

from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import Progress
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import Payload
from midwife.images.vib.archives.archive import ARCHIVES, list_files
from midwife.images.vib.archives.payload import check_payload, preferred_checksum
from midwife.images.vib.content import Vib
from midwife.images.vib.limits import broken_limits
from midwife.images.vib.paths import broken_path_rules
from midwife.images.vib.signing.signature import VMWARE, Anchors, prove, told_otherwise

__all__ = ["verify_vib"]

_SHOWN = 5


def verify_vib(
    vib: Vib,
    *,
    every: bool = False,
    signature: bool = True,
    anchors: Anchors = VMWARE,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """All problems, a sentence each, without the VIB's name; () for a good VIB. Always in the same order.

    ``every``: all sums of each payload, not only the one over its bytes as stored. ``signature`` False believes
    the level that it claims. ``progress`` gets (stored bytes done, all). Raises nothing for what is wrong with
    the VIB.
    """
    package = vib.package
    problems = []
    if signature and (reason := prove(vib, anchors).reason):
        problems.append(f"it claims to be {package.acceptance_level.documented}, but {reason}")
    elif difference := _difference(vib):
        problems.append(difference)
    problems += broken_limits(package)
    total, done = sum(payload.size for payload in package.payloads), 0
    # Where the rules of paths hold, the list must be true, or they would be broken behind its back.
    wanted = package.acceptance_level < AcceptanceLevel.ACCEPTED
    brought: set[str] = set()
    for payload in package.payloads:
        try:
            _check_payload(vib, payload, every)
            if wanted and payload.type in ARCHIVES:
                brought |= {
                    _plain(entry.name) for entry in list_files(vib, payload) if not entry.is_directory
                }
        except ImageError as error:
            problems.append(str(error).removeprefix(f"{package.id}: "))
            wanted = False  # what it brings is not known as a whole
        done += payload.size
        if progress:
            progress(done, total)
    problems += broken_path_rules(package)
    if wanted:
        problems += _differences(brought, {_plain(path) for path in package.files if not path.endswith("/")})
    return tuple(problems)


def _difference(vib: Vib) -> str:
    try:
        return told_otherwise(vib)
    except ImageError as error:
        return str(error)


def _check_payload(vib: Vib, payload: Payload, every: bool) -> None:
    if preferred_checksum(payload) is None:
        raise FormatError(
            f"payload {payload.name} has no checksum that can be computed: nothing ties it to the descriptor"
        )
    check_payload(vib, payload, every=every)


def _differences(brought: set[str], listed: set[str]) -> Iterator[str]:
    yield from _counted(brought - listed, "its payloads bring {}, which its file list does not have")
    yield from _counted(listed - brought, "its file list has {}, which no payload brings")


def _counted(paths: set[str], sentence: str) -> Iterator[str]:
    if paths:
        first = sorted(paths)[:_SHOWN]
        more = f" and {len(paths) - len(first)} more" if len(paths) > len(first) else ""
        yield sentence.format(", ".join(first) + more)


def _plain(path: str) -> str:
    return path.removeprefix("./").lstrip("/")
