"""Downloads over HTTP(S): resumed after a break, bounded in size and time, checked, and whole or not there.

RFC 9110 for Range, If-Range and the conditional requests. A file that is under way is ``<sha-256 of the
address>.part`` beside a note of its validator; it survives ``kill -9``, and the next attempt goes on from there.
Knows nothing of depots. Not for callers that run an event loop themselves: each call runs one of its own.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from midwife.images.depot.sources.asking import Broken, Patience, answered, plain
from midwife.images.depot.sources.refusals import PAGE, advice, is_page
from midwife.images.depot.sources.urls import check_url, shown_url
from midwife.images.errors import FormatError, ImageError
from midwife.images.flow import BLOCK, Progress

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Expected", "Fetcher", "Validator"]


_BUSY = (408, 425, 429, 500, 502, 503, 504)
_MOST_ATTEMPTS = 20
_MOST_RESTARTS = 2
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Validator:
    """What a server says of the version that it sent; both may be missing."""

    etag: str = ""
    modified: str = ""

    @property
    def strong(self) -> str:
        """For If-Range (RFC 9110 13.1.5): no weak tag."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the file beforehand; ``limit`` is the most bytes that it may have."""

    limit: int
    size: int | None = None
    sha256: str | None = None


class _Again(Exception):
    """The part at hand is of no use: from the start, at once."""


@dataclass(slots=True)
class Fetcher:
    """Downloads, with ``parts`` as the folder for what is under way.

    ``progress`` is called with bytes done and bytes in all, 0 where the server does not say. Certificates are
    checked against the system's CAs (or SSL_CERT_FILE); proxies are those of the environment (http_proxy,
    https_proxy, no_proxy).
    """

    parts: Path
    patience: Patience = field(default_factory=Patience)
    progress: Progress | None = None

    def download(self, url: str, target: Path, expected: Expected) -> None:
        """Put the file at ``target``, replacing it. Raises ImageError; FormatError if it is not as expected."""
        self._run(url, target, expected, None)

    def document(self, url: str, target: Path, expected: Expected) -> bool:
        """Like ``download``, but asks whether it changed first, if it is there; whether it was fetched."""
        note = target.with_name(target.name + ".json")
        known = _read_note(note) if target.is_file() else None
        answer = self._run(url, target, expected, known)
        if answer is None:
            return False
        note.write_text(json.dumps({"etag": answer.etag, "modified": answer.modified}))
        return True

    def _run(self, url: str, target: Path, expected: Expected, known: Validator | None) -> Validator | None:
        check_url(url)
        name = hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            with (self.parts / f"{name}.part").open("a+b") as part:
                try:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ImageError(f"another midwife is downloading {shown_url(url)}; try again") from None
                if not _same_file(part):  # whoever had the lock has just finished with it
                    raise ImageError(f"another midwife has just downloaded {shown_url(url)}; try again")
                transfer = _Transfer(self, url, part, target, expected, known)
                try:
                    return asyncio.run(transfer.run())
                except BaseException:
                    transfer.leave()
                    raise
        except OSError as error:
            raise ImageError(f"cannot keep {shown_url(url)} below {self.parts}: {error.strerror}") from error


@dataclass(slots=True)
class _Transfer:
    """One file."""

    fetcher: Fetcher
    url: str
    part: IO[bytes]
    target: Path
    expected: Expected
    known: Validator | None

    @property
    def shown(self) -> str:
        return shown_url(self.url)

    @property
    def note(self) -> Path:
        return Path(self.part.name + ".json")

    async def run(self) -> Validator | None:
        """The validator of what was fetched, None if nothing changed."""
        fruitless = restarts = 0
        patience = self.fetcher.patience
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            before = self._size()
            try:
                return await self._attempt()
            except _Again:
                self._forget()
                restarts += 1
                if restarts > _MOST_RESTARTS:
                    break
            except Broken as error:
                fruitless = 0 if self._size() - before >= patience.slowest else fruitless + 1
                if fruitless >= patience.fruitless or attempt == _MOST_ATTEMPTS:
                    kept = self._size() if self._resumable() else 0
                    on = f"; {kept} bytes are kept, and the next attempt goes on from there" if kept else ""
                    raise ImageError(f"cannot fetch {self.shown}: {error}{on}") from None
                await asyncio.sleep(patience.pause)
        raise ImageError(f"cannot fetch {self.shown}: the server contradicts itself; try again later")

    async def _attempt(self) -> Validator | None:
        have = self._size()
        validator = _read_note(self.note)
        if have and not self._resumable():
            self._forget()
            have = 0
        async with answered(self.url, self._headers(have, validator), self.fetcher.patience) as answer:
            if answer.status == 304 and self.known is not None:
                self._drop()
                return None
            self._check_answer(answer, have)
            if answer.status == 200:
                self._forget()
                validator = _validator(answer.headers)
                # Before the bytes: a part without its note would be of no use.
                self.note.write_text(json.dumps({"etag": validator.etag, "modified": validator.modified}))
            await self._receive(answer)
        self._check_page()
        self._finish(have if answer.status == 206 else 0)
        return validator

    def _headers(self, have: int, validator: Validator) -> dict[str, str]:
        """Ask for the rest of what is here, or whether there is anything new."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "midwife"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator.strong:
                headers["If-Range"] = validator.strong
        elif self.known is not None:
            if self.known.etag:
                headers["If-None-Match"] = self.known.etag
            if self.known.modified:
                headers["If-Modified-Since"] = self.known.modified
        return headers

    def _check_answer(self, answer: "aiohttp.ClientResponse", have: int) -> None:
        """Raises _Again or Broken, and ImageError for what no second attempt would mend."""
        if answer.status in _BUSY:
            raise Broken(f"the server answers {answer.status} {answer.reason}")
        if answer.status == 416 and have:
            raise _Again
        if answer.status not in (200, 206):
            self._drop()
            told = f"{self.shown}: the server answers {answer.status} {plain(answer.reason or '')}".rstrip()
            raise ImageError(f"{told}{advice(answer.status)}")
        coding = answer.headers.get("Content-Encoding", "identity").lower()
        if coding not in ("identity", ""):
            self._drop()
            raise ImageError(
                f"{self.shown}: the server packs it ({plain(coding)}) although we ask it not to; "
                "its sizes and sums would mean nothing"
            )
        if answer.status == 206:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not have or match is None or int(match[1]) != have:
                if not have:
                    raise ImageError(f"{self.shown}: the server sends a part of it that nobody asked for")
                raise _Again
        length = answer.content_length
        start = have if answer.status == 206 else 0
        page = f"; {PAGE}" if answer.content_type == "text/html" else ""
        if length is not None:
            self._check_size(start + length, whole=True, page=page)

    async def _receive(self, answer: "aiohttp.ClientResponse") -> None:
        patience, progress = self.fetcher.patience, self.fetcher.progress
        done = self._size()
        length = answer.content_length
        total = self.expected.size or (0 if length is None else done + length)
        mark, since = done, time.monotonic()
        async for chunk in answer.content.iter_chunked(BLOCK):
            self.part.write(chunk)
            done += len(chunk)
            self._check_size(done, whole=False)
            if progress:
                progress(done, max(total, done) if total else 0)
            now = time.monotonic()
            if now - since > patience.window:
                if done - mark < patience.slowest:
                    raise Broken("the server sends next to nothing")
                mark, since = done, now

    def _check_size(self, size: int, *, whole: bool, page: str = "") -> None:
        wanted, limit = self.expected.size, self.expected.limit
        if wanted is not None and (size > wanted or (whole and size != wanted)):
            self._drop()
            more = "" if whole else "more than "
            raise FormatError(
                f"{self.shown} has {more}{size if whole else wanted} bytes; its depot says {wanted}{page}"
            )
        if size > limit:
            self._drop()
            raise FormatError(f"{self.shown} has more than {limit} bytes: too many for what it should be")

    def _check_page(self) -> None:
        self.part.flush()
        if is_page(os.pread(self.part.fileno(), 256, 0)):
            self._drop()
            raise FormatError(f"{self.shown}: {PAGE}")

    def _finish(self, resumed_at: int) -> None:
        """Check the whole file, make it durable, give it its name."""
        self.part.flush()
        size = self._size()
        if self.expected.size is not None and size != self.expected.size:
            self._drop()
            raise FormatError(f"{self.shown} has {size} bytes; its depot says {self.expected.size}")
        if self.expected.sha256 is not None:
            self.part.seek(0)
            digest = hashlib.sha256()
            while chunk := self.part.read(BLOCK):
                digest.update(chunk)
            found = digest.hexdigest()
            if found != self.expected.sha256.lower():
                if resumed_at:
                    raise _Again  # put together from two versions, perhaps; the whole file decides
                self._drop()
                raise FormatError(
                    f"{self.shown} is not what its depot says: sha256 {found}, {self.expected.sha256} wanted; "
                    "it was thrown away"
                )
        os.fsync(self.part.fileno())
        Path(self.part.name).replace(self.target)
        self.note.unlink(missing_ok=True)

    def leave(self) -> None:
        """After a failure: only what the next attempt can go on from stays."""
        if not (self._size() and self._resumable()):
            self._drop()

    def _resumable(self) -> bool:
        """Whether something would tell that the rest belongs to the same file."""
        return bool(_read_note(self.note).strong or self.expected.sha256)

    def _size(self) -> int:
        self.part.flush()
        return os.fstat(self.part.fileno()).st_size

    def _forget(self) -> None:
        self.part.flush()
        self.part.truncate(0)
        self.note.unlink(missing_ok=True)

    def _drop(self) -> None:
        self.note.unlink(missing_ok=True)
        Path(self.part.name).unlink(missing_ok=True)


def _same_file(part: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(part.fileno()), Path(part.name).stat())
    except FileNotFoundError:
        return False


def _read_note(path: Path) -> Validator:
    try:
        found = json.loads(path.read_bytes())
        return Validator(str(found["etag"]), str(found["modified"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Validator()


def _validator(headers: Mapping[str, str]) -> Validator:
    return Validator(headers.get("ETag", "")[:1000], headers.get("Last-Modified", "")[:100])
