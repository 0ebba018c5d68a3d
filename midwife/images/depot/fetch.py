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
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin

from midwife.images.depot.urls import check_url, exact_url, shown_url
from midwife.images.errors import FormatError, ImageError
from midwife.images.vib.content import BLOCK

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Expected", "Fetcher", "Patience", "Validator"]

Progress = Callable[[int, int], None]

_REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_MOST_ATTEMPTS = 20
_MOST_RESTARTS = 2
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """All in seconds, except ``slowest`` (bytes a window) and ``fruitless`` (attempts in a row)."""

    connect: float = 30
    headers: float = 60
    silence: float = 60
    """Between two pieces of a body."""
    window: float = 120
    slowest: int = 64 << 10
    """Whoever sends less than this in a window (500 bytes a second) will never be done."""
    pause: float = 2
    """Before the next attempt."""
    fruitless: int = 3
    """Attempts that bring less than ``slowest`` before we give up."""


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


class _Broken(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


class _Again(Exception):
    """The part at hand is of no use: from the start, at once."""


@dataclass(slots=True)
class Fetcher:
    """Downloads, with ``parts`` as the folder for what is under way.

    ``progress`` is called with bytes done and bytes in all. Certificates are checked against the system's CAs
    (or SSL_CERT_FILE); proxies are those of the environment (http_proxy, https_proxy, no_proxy).
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
                return asyncio.run(transfer.run())
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
            except _Broken as error:
                fruitless = 0 if self._size() - before >= patience.slowest else fruitless + 1
                if fruitless >= patience.fruitless or attempt == _MOST_ATTEMPTS:
                    kept = self._size()
                    on = f"; {kept} bytes are kept, and the next attempt goes on from there" if kept else ""
                    raise ImageError(f"cannot fetch {self.shown}: {error}{on}") from None
                await asyncio.sleep(patience.pause)
        raise ImageError(f"cannot fetch {self.shown}: the server contradicts itself; try again later")

    async def _attempt(self) -> Validator | None:
        have = self._size()
        validator = _read_note(self.note)
        if have and not validator.strong and self.expected.sha256 is None:
            self._forget()  # nothing would tell whether the rest belongs to the same file
            have = 0
        async with self._answer(have, validator) as answer:
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
        self._finish(have if answer.status == 206 else 0)
        return validator

    @asynccontextmanager
    async def _answer(self, have: int, validator: Validator) -> "AsyncIterator[aiohttp.ClientResponse]":
        import aiohttp  # not above: `midwife depot list` needs no HTTP client

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
        patience = self.fetcher.patience
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect, sock_read=patience.silence)
        try:
            async with aiohttp.ClientSession(
                timeout=timeout, trust_env=True, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session:
                async with asyncio.timeout(patience.connect + patience.headers):
                    answer = await self._follow(session, headers)
                async with answer:
                    yield answer
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise ImageError(
                f"{self.shown}: the server's certificate is not trusted: {_reason(error)}; "
                "add its CA to the system's, or name it in SSL_CERT_FILE"
            ) from None
        except aiohttp.InvalidURL:
            raise ImageError(f"{self.shown} leads to no usable address") from None
        except TimeoutError:
            raise _Broken("the server takes too long to answer, or sends next to nothing") from None
        except aiohttp.ClientConnectionResetError as error:
            raise _Broken(f"the connection broke: {_reason(error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise _Broken(f"no connection: {_reason(error)}") from None
        except aiohttp.ClientError as error:
            raise _Broken(f"the connection broke: {_reason(error)}") from None

    async def _follow(
        self, session: "aiohttp.ClientSession", headers: Mapping[str, str]
    ) -> "aiohttp.ClientResponse":
        """Redirects by hand: few, to http and https only, and never from https back to http."""
        from yarl import URL

        url = self.url
        for _ in range(_REDIRECTS + 1):
            # aiohttp's own context is made when it is imported; this one is of now.
            trust: Any = ssl.create_default_context() if url.lower().startswith("https:") else True
            try:
                address = URL(exact_url(url), encoded=True)
            except ValueError:
                raise ImageError(f"{self.shown} leads to no usable address") from None
            answer = await session.get(address, headers=headers, allow_redirects=False, ssl=trust)
            if answer.status not in _MOVED:
                return answer
            answer.close()
            try:
                to = check_url(urljoin(url, answer.headers.get("Location", "")))
            except ValueError:
                raise ImageError(f"{self.shown} leads to no usable address") from None
            if url.lower().startswith("https:") and not to.lower().startswith("https:"):
                raise ImageError(f"{self.shown} leads from https to plain http: {shown_url(to)}; refused")
            url = to
        raise ImageError(f"{self.shown} leads from one address to the next, more than {_REDIRECTS} times")

    def _check_answer(self, answer: "aiohttp.ClientResponse", have: int) -> None:
        """Raises _Again or _Broken, and ImageError for what no second attempt would mend."""
        if answer.status in _BUSY:
            raise _Broken(f"the server answers {answer.status} {answer.reason}")
        if answer.status == 416 and have:
            raise _Again
        if answer.status not in (200, 206):
            self._drop()
            raise ImageError(
                f"{self.shown}: the server answers {answer.status} {_plain(answer.reason or '')}".rstrip()
            )
        coding = answer.headers.get("Content-Encoding", "identity").lower()
        if coding not in ("identity", ""):
            self._drop()
            raise ImageError(
                f"{self.shown}: the server packs it ({_plain(coding)}) although we ask it not to; "
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
        if length is not None:
            self._check_size(start + length, whole=True)

    async def _receive(self, answer: "aiohttp.ClientResponse") -> None:
        patience, progress = self.fetcher.patience, self.fetcher.progress
        done = self._size()
        total = self.expected.size or (done + (answer.content_length or 0))
        mark, since = done, time.monotonic()
        async for chunk in answer.content.iter_chunked(BLOCK):
            self.part.write(chunk)
            done += len(chunk)
            self._check_size(done, whole=False)
            if progress:
                progress(done, max(total, done))
            now = time.monotonic()
            if now - since > patience.window:
                if done - mark < patience.slowest:
                    raise _Broken("the server sends next to nothing")
                mark, since = done, now

    def _check_size(self, size: int, *, whole: bool) -> None:
        wanted, limit = self.expected.size, self.expected.limit
        if wanted is not None and (size > wanted or (whole and size != wanted)):
            self._drop()
            more = "" if whole else "more than "
            raise FormatError(
                f"{self.shown} has {more}{size if whole else wanted} bytes; its depot says {wanted}"
            )
        if size > limit:
            self._drop()
            raise FormatError(f"{self.shown} has more than {limit} bytes: too many for what it should be")

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


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def _reason(error: BaseException) -> str:
    """Without the address, which may hold a secret."""
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    text = getattr(inner, "verify_message", "") or getattr(inner, "strerror", "") or type(inner).__name__
    return _plain(str(text))
