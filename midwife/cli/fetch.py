"""``midwife fetch``: fetch what a host would fetch, with a client that is not midwife's own.

tftpy's client and the standard library's HTTP client are independent of the servers they are pointed at, so what
they get is what a host gets.
"""

import hashlib
import http.client
import io
import logging
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO

import click

from midwife.cli.common import fail

__all__ = ["command"]

_CHUNK = 256 * 1024


@click.command("fetch")
@click.argument("url")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write to this file; - for standard output."
)
@click.option(
    "--blksize", type=click.IntRange(8, 65464), default=1468, show_default=True, help="TFTP block size."
)
@click.option("--agent", default="UefiHttpBoot/1.0", show_default=True, help="HTTP User-Agent.")
@click.option("--timeout", type=click.IntRange(1), default=10, show_default=True, help="Seconds.")
def command(url: str, output: Path | None, blksize: int, agent: str, timeout: int) -> None:
    """Fetch URL (tftp:// or http://) as a booting host would; say how many bytes, how fast, and the SHA-256."""
    parts = _parts(url)
    got = io.BytesIO()
    began = time.monotonic()
    try:
        if parts.scheme == "tftp":
            _tftp(parts, got, blksize, timeout)
        else:
            _http(url, got, agent, timeout)
    except (OSError, ValueError, http.client.HTTPException) as error:
        fail(f"{url}: {_reason(error)}")
    seconds = time.monotonic() - began
    body = got.getvalue()
    _write(output, body)
    rate = len(body) / seconds / 1e6 if seconds else 0.0
    digest = hashlib.sha256(body).hexdigest()
    click.echo(f"{len(body)} bytes in {seconds:.2f} s ({rate:.1f} MB/s), sha256 {digest}", err=True)


def _parts(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("tftp", "http") and parts.hostname and parts.port != 0
    except ValueError as error:  # brackets or a port that are none
        fail(f"{url!r} is no URL: {error}")
    if not good:
        fail(f"{url!r} is no tftp:// or http:// URL")
    return parts


def _tftp(parts: urllib.parse.SplitResult, got: BinaryIO, blksize: int, timeout: int) -> None:
    import tftpy

    logging.getLogger("tftpy").setLevel(logging.CRITICAL)
    client = tftpy.TftpClient(parts.hostname, parts.port or 69, {"blksize": blksize, "tsize": 0})
    name = urllib.parse.unquote(parts.path.removeprefix("/"))
    try:
        client.download(name, _Unclosed(got), timeout=timeout)
    except tftpy.TftpException as error:
        raise OSError(str(error)) from None


def _http(url: str, got: BinaryIO, agent: str, timeout: int) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": agent})  # noqa: S310 - http only, see above
    # A host knows nothing of this shell's http_proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        while chunk := answer.read(_CHUNK):
            got.write(chunk)


class _Unclosed:
    """tftpy closes what it wrote to; the bytes are still wanted."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def write(self, data: bytes) -> int:
        return self._target.write(data)

    def close(self) -> None:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        said = error.read(200).decode(errors="replace").strip()
        return f"HTTP {error.code}: {said or error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _write(output: Path | None, body: bytes) -> None:
    if output is None:
        return
    if str(output) == "-":
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(body)
    except OSError as error:
        fail(f"{output}: {error.strerror}")
