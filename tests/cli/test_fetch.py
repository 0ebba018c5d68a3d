"""``midwife fetch`` against a running ``midwife serve``, and against servers that do what they should not."""

import hashlib
import http.server
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sites import midwife, write_site

BODY = bytes(range(256)) * 40


def free_ports(count: int) -> list[int]:
    """Held together, so that they differ; free again when they are used."""
    held = [socket.socket() for _ in range(count)]
    for sock in held:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """A running service; its TFTP and HTTP ports."""
    tftp, web, call = free_ports(3)
    root = tmp_path_factory.mktemp("site")
    listen = "".join(
        f"{name}:\n  listen: 127.0.0.1:{port}\n"
        for name, port in (("tftp", tftp), ("http", web), ("callback", call))
    )
    write_site(root, listen)
    (root / "files" / "blob").write_bytes(BODY)
    words = [sys.executable, "-m", "midwife", "serve", str(root)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as service:
        assert service.stderr
        seen = ""
        for line in service.stderr:
            seen += line
            if line.startswith("midwife serves"):
                break
        assert service.poll() is None, seen
        drain = threading.Thread(target=service.stderr.read, daemon=True)
        drain.start()
        yield tftp, web
        service.terminate()
        service.wait(20)
        drain.join(10)


def test_both_protocols_give_the_same_bytes(ports: tuple[int, int], tmp_path: Path) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    for url in (f"tftp://127.0.0.1:{ports[0]}/files/blob", f"http://127.0.0.1:{ports[1]}/files/blob"):
        result = midwife("fetch", url, "-o", tmp_path / "got")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "got").read_bytes() == BODY
        assert re.fullmatch(rf"10240 bytes in [0-9.]+ s \([0-9.]+ MB/s\), sha256 {digest}\n", result.stderr)
        assert result.stdout == ""


def test_to_standard_output_and_nowhere(ports: tuple[int, int]) -> None:
    url = f"http://127.0.0.1:{ports[1]}/boot.ipxe"
    assert midwife("fetch", url, "-o", "-").stdout.startswith("#!ipxe\n")
    assert midwife("fetch", url).stdout == ""
    other = midwife("fetch", f"tftp://127.0.0.1:{ports[0]}/boot.ipxe", "--blksize", "8", "-o", "-")
    assert other.stdout == midwife("fetch", url, "-o", "-").stdout


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:{1}/files/gone", "HTTP 404: 404 "),
        ("http://127.0.0.1:{1}/files/%2e%2e/midwife.yaml", "HTTP 403: 403 '..' would leave the served tree"),
        ("tftp://127.0.0.1:{0}/files/gone", "not found"),
        ("http://127.0.0.1:1/x", "Connection refused"),
        ("http://127.0.0.1:99999/x", "is no URL: Port out of range"),
        ("http://[::1/x", "is no URL: "),
        ("ftp://127.0.0.1/x", "is no tftp:// or http:// URL"),
        ("https://127.0.0.1/x", "is no tftp:// or http:// URL"),
        ("files/blob", "is no tftp:// or http:// URL"),
        ("http://127.0.0.1:{1}/a b", "URL can't contain control characters"),
        ("http://127.0.0.1:{1}/é", "codec can't encode"),
    ],
)
def test_what_goes_wrong_is_a_sentence(ports: tuple[int, int], url: str, says: str) -> None:
    result = midwife("fetch", url.format(*ports), "--timeout", "5")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr


def test_a_proxy_of_this_shell_is_not_a_host_s(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert midwife("fetch", f"http://127.0.0.1:{ports[1]}/files/blob").exit_code == 0


def test_where_it_cannot_be_written(ports: tuple[int, int], tmp_path: Path) -> None:
    result = midwife("fetch", f"http://127.0.0.1:{ports[1]}/files/blob", "-o", tmp_path / "no" / "where")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'no' / 'where'}: No such file or directory\n"


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = midwife("fetch", f"http://127.0.0.1:{silent.getsockname()[1]}/x", "--timeout", "1")
    assert result.exit_code == 1
    assert "timed out" in result.stderr


def test_it_comes_as_a_uefi_firmware_unless_told_otherwise() -> None:
    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["User-Agent"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        midwife("fetch", url)
        midwife("fetch", url, "--agent", "iPXE/1.21.1")
        server.shutdown()
        thread.join(10)
    assert seen == ["UefiHttpBoot/1.0", "iPXE/1.21.1"]
