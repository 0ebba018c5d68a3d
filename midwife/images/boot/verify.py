"""Whether the files of an image are still what was imported: ``image verify``, and the service when it starts.

What was found is kept beside ``image.json``; an image with a changed or missing file is out of service until it
is verified again. Knows nothing of how images are served.
"""

import hashlib
import json
import os
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from midwife.images.boot.manifest import FILES, Entry, Manifest, read_manifest
from midwife.images.disk import replacing
from midwife.images.errors import ImageError
from midwife.images.flow import BLOCK, Progress
from midwife.images.names import check_image_name

__all__ = ["VERIFIED", "Verdict", "out_of_service", "verify_image"]

VERIFIED = "verified.json"
Stop = Callable[[], bool]

_MAX_STATE = 16 << 20  # bytes; some 150 for each file
_Stamp = tuple[str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found."""

    name: str
    problems: tuple[str, ...]
    """Sentences, one for each changed or missing file; none: the image is in service."""
    files: int
    hashed: int
    """How many of them were read; the others are as they were when last read."""


class _Stopped(Exception):
    """The service ends."""


def verify_image(
    images_dir: Path,
    name: str,
    progress: Progress | None = None,
    *,
    every: bool = True,
    stop: Stop | None = None,
) -> Verdict:
    """Compare the files of an image with its manifest, and take it out of service or into it again.

    ``every``: read all of them; else only those that were touched since they were read last (size, inode, times
    of change). ``stop`` is asked now and then; True ends it with ImageError, and nothing is recorded. Raises
    ImageError if there is no such image, or its manifest or the disk cannot be read or written.
    """
    directory = images_dir / check_image_name(name)
    manifest = read_manifest(directory)
    known: Mapping[str, _Stamp] = {} if every else _known(_state(directory))
    stamps: dict[str, _Stamp] = {}
    problems: list[str] = []
    done, hashed = 0, 0
    for file, entry in sorted(manifest.files.items()):
        before = done
        path = directory / FILES / file

        def passed(count: int, before: int = before) -> None:
            if stop and stop():
                raise _Stopped
            if progress:
                progress(before + count, manifest.size)

        try:
            stamp = _stamp(path, entry)
            if known.get(file) != stamp:
                hashed += 1
                _compare(path, entry, passed)
                if _stamp(path, entry) != stamp:
                    problems.append(f"{file} changes while it is read: somebody is writing to it")
                    continue
            stamps[file] = stamp
        except _Stopped:
            raise ImageError(f"image {name}: the verification was interrupted") from None
        except _Wrong as wrong:
            problems.append(f"{file} {wrong}")
        except OSError as error:
            problems.append(f"{file} cannot be read: {error.strerror or error}")
        finally:
            done = before + entry.size
    if progress:
        progress(manifest.size, manifest.size)
    _record(directory, stamps, problems)
    return Verdict(name, tuple(problems), len(manifest.files), hashed)


def out_of_service(directory: Path, manifest: Manifest) -> str | None:
    """Why an image may not be served, or None: what the last verification found, and files that are missing or
    have another size now. Reads no file of the image.
    """
    problems = [problem for problem in _list(_state(directory), "problems") if isinstance(problem, str)]
    if not problems:
        for file, entry in sorted(manifest.files.items()):
            try:
                _stamp(directory / FILES / file, entry)
            except _Wrong as wrong:
                problems.append(f"{file} {wrong}")
            except OSError as error:
                problems.append(f"{file} cannot be read: {error.strerror or error}")
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
    return (
        f"image {manifest.name} is out of service: {problems[0]}{more}; put it right, or {_anew(manifest)}, "
        f"then `midwife image verify {manifest.name}`"
    )


def _anew(manifest: Manifest) -> str:
    if manifest.iso_sha256:
        return "bring the image anew"
    words = ["midwife", "image", "netboot", manifest.profile, "--as", manifest.name]
    return f"make the image anew (`{shlex.join(words)}`)"


class _Wrong(Exception):
    """What is wrong with a file, to be read after its name."""


def _stamp(path: Path, entry: Entry) -> _Stamp:
    """Changes whenever the file is written to. Raises _Wrong, OSError."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise _Wrong("is missing") from None
    if not stat.S_ISREG(status.st_mode):
        raise _Wrong("is no regular file")
    if status.st_size != entry.size:
        raise _Wrong(f"has {status.st_size} bytes instead of {entry.size}")
    return (entry.sha256, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _compare(path: Path, entry: Entry, passed: Callable[[int], None]) -> None:
    digest = hashlib.sha256()
    done = 0
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        while chunk := file.read(BLOCK):
            digest.update(chunk)
            done += len(chunk)
            passed(min(done, entry.size))
    if digest.hexdigest() != entry.sha256:
        raise _Wrong("is not what was imported (its sha256 is another)")


def _state(directory: Path) -> Mapping[str, Any]:
    """What the last verification left; nothing if it cannot be read, and then every file is read again."""
    try:
        with (directory / VERIFIED).open("rb") as file:
            data = json.loads(file.read(_MAX_STATE))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _list(state: Mapping[str, Any], key: str) -> list[Any]:
    found = state.get(key)
    return found if isinstance(found, list) else []


def _known(state: Mapping[str, Any]) -> dict[str, _Stamp]:
    files = state.get("files")
    if not isinstance(files, dict):
        return {}
    return {name: tuple(stamp) for name, stamp in files.items() if isinstance(stamp, list)}


def _record(directory: Path, stamps: Mapping[str, _Stamp], problems: list[str]) -> None:
    """Written only if something is new: whoever serves the image looks at it again then."""
    old = _state(directory)
    if _known(old) == dict(stamps) and _list(old, "problems") == problems:
        return
    state = {
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "problems": problems,
        "files": {name: list(stamp) for name, stamp in stamps.items()},
    }
    try:
        with replacing(directory / VERIFIED) as out:
            out.write(json.dumps(state, indent=1).encode())
    except OSError as error:
        raise ImageError(
            f"image {directory.name}: cannot write {directory / VERIFIED}: {error.strerror}"
            + (f"; found: {problems[0]}" if problems else "")
        ) from None
