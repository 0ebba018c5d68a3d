"""The stand-in for ESXi's loader asks what the real one was seen to ask, and stops where the real one stops."""

import hashlib
import http.server
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .dhcp import Boot
from .lab import Lab
from .mboot import BootSkippedError, Mboot, MbootError
from .mboot_cfg import NOT_FOUND, PROTOCOL, SYNTAX, Config, parse

MAC = "52:54:00:00:00:01"
OWN = "01-52-54-00-00-00-01/boot.cfg"
CONFIG = b"""\
bootstate=0
title=Loading ESXi installer
timeout=0
prefix=img
kernel=b.b00
kernelopt=runweasel PBHOST=192.168.77.3:6789
modules=jumpstrt.gz --- useropts.gz --- features.gz --- k.b00 --- initrd.b00 --- s.v00
build=8.0.3-0.35.24022510
updated=0
"""
MODULES = ("b.b00", "jumpstrt.gz", "useropts.gz", "features.gz", "k.b00", "initrd.b00", "s.v00")
# What the real mboot.efi asked on a captured boot with the configuration above.
SEEN = [
    f"size {OWN}",
    f"read {OWN}",
    f"size {OWN}",
    f"read {OWN}",
    *(f"size img/{name}" for name in MODULES),
    "size crypto64.efi",
    "read crypto64.efi",
    *(f"{verb} img/{name}" for name in MODULES for verb in ("size", "read")),
]


def tree(config: bytes = CONFIG) -> dict[str, bytes]:
    """A boot server's files; the module sizes are around the edges of blocks and windows."""
    sizes = (1, 1467, 1468, 1469, 4 * 1468, 40_000, 0)
    files = {
        f"img/{name}": bytes([i]) * size for i, (name, size) in enumerate(zip(MODULES, sizes, strict=True))
    }
    return files | {OWN: config, "crypto64.efi": b"crypto"}


class TinyTftp:
    """A TFTP server just large enough: one transfer at a time, options of RFC 2348, 2349 and 7440."""

    def __init__(self, files: dict[str, bytes], *, tells_size: bool = True, loses: int = 0) -> None:
        """loses: every so-many-th data packet is not sent the first time."""
        self.files = files
        self.requests: list[str] = []
        self.aborts: list[int] = []
        self._tells_size = tells_size
        self._loses = loses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="tiny tftp")
        self._thread.start()

    def close(self) -> None:
        self._socket.sendto(b"stop", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while (packet := self._socket.recvfrom(2048)) and packet[0] != b"stop":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                link.bind(("127.0.0.1", 0))
                link.connect(packet[1])
                link.settimeout(5)
                self._transfer(link, packet[0])

    def _transfer(self, link: socket.socket, request: bytes) -> None:
        words = request[2:].decode().split("\0")
        self.requests.append(" ".join(words).strip())
        asked = dict(zip(words[2::2], words[3::2], strict=False))
        data = self.files.get(words[0].lstrip("/"))
        if data is None:
            link.send(struct.pack("!HH", 5, 1) + b"no such file\0")
            return
        granted: dict[str, str] = {name: asked[name] for name in ("blksize", "windowsize") if name in asked}
        if "tsize" in asked and self._tells_size:
            granted["tsize"] = str(len(data))
        link.send(struct.pack("!H", 6) + b"".join(f"{k}\0{v}\0".encode() for k, v in granted.items()))
        size, window = int(granted["blksize"]), int(granted["windowsize"])
        blocks = [data[i : i + size] for i in range(0, len(data) + 1, size)]
        sent = done = 0
        while done < len(blocks):
            kind, number = struct.unpack("!HH", link.recv(2048)[:4])
            if kind == 5:
                self.aborts.append(number)
                return
            done = number
            for block in range(done + 1, min(done + window, len(blocks)) + 1):
                sent += 1
                if not self._loses or sent % self._loses:
                    link.send(struct.pack("!HH", 3, block) + blocks[block - 1])


@pytest.fixture
def tiny_tftp() -> Iterator[Callable[..., TinyTftp]]:
    servers: list[TinyTftp] = []

    def start(files: dict[str, bytes], **options: object) -> TinyTftp:
        servers.append(TinyTftp(files, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def boot_tftp(server: TinyTftp, **options: object) -> Mboot:
    return Mboot(f"127.0.0.1:{server.port}", MAC, timeout=0.5, **options)  # type: ignore[arg-type]


# --- TFTP


def test_asks_over_tftp_what_the_captured_loader_asked(tiny_tftp: Callable[..., TinyTftp]) -> None:
    server = tiny_tftp(tree())
    loaded = boot_tftp(server).boot()
    assert list(loaded.journal) == SEEN
    assert server.requests[0] == f"{OWN} octet tsize 0 blksize 1468 windowsize 4"
    assert server.requests[1] == f"{OWN} octet blksize 1468 windowsize 4"
    assert server.aborts == [8] * sum(line.startswith("size ") for line in SEEN)


def test_gives_what_the_loader_would_start(tiny_tftp: Callable[..., TinyTftp]) -> None:
    files = tree()
    loaded = boot_tftp(tiny_tftp(files)).boot()
    assert loaded.kernel_line == ("img/b.b00 runweasel PBHOST=192.168.77.3:6789 BOOTIF=01-52-54-00-00-00-01")
    assert loaded.parameters["PBHOST"] == "192.168.77.3:6789"
    assert [module.name for module in loaded.modules] == [f"img/{name}" for name in MODULES[1:]]
    for module in (loaded.kernel, *loaded.modules):
        assert module.sha256 == hashlib.sha256(files[module.name]).hexdigest()
        assert module.size == len(files[module.name])
    assert loaded.crypto == "crypto64.efi"


def test_lost_packets_are_asked_for_again(tiny_tftp: Callable[..., TinyTftp]) -> None:
    loaded = boot_tftp(tiny_tftp(tree(), loses=7)).boot()
    assert [module.size for module in loaded.modules] == [1467, 1468, 1469, 4 * 1468, 40_000, 0]


def test_without_tsize_there_is_no_boot(tiny_tftp: Callable[..., TinyTftp]) -> None:
    with pytest.raises(MbootError, match="tsize") as stop:
        boot_tftp(tiny_tftp(tree(), tells_size=False)).boot()
    assert stop.value.code == PROTOCOL


def test_without_its_own_directory_the_common_configuration_counts(
    tiny_tftp: Callable[..., TinyTftp],
) -> None:
    files = tree()
    files["esx/boot.cfg"] = files.pop(OWN)
    loaded = boot_tftp(tiny_tftp(files), loader="esx/mboot.efi").boot()
    assert loaded.config == "esx/boot.cfg"
    assert loaded.kernel.name == "img/b.b00", "prefix= is relative to the TFTP root"


def test_without_prefix_names_are_beside_boot_cfg(tiny_tftp: Callable[..., TinyTftp]) -> None:
    server = tiny_tftp(
        {"esx/boot.cfg": b"kernel=b.b00\nmodules=/abs/m.gz one two", "esx/b.b00": b"k", "abs/m.gz": b"m"}
    )
    loaded = boot_tftp(server, loader="esx/mboot.efi").boot()
    assert loaded.kernel.name == "esx/b.b00"
    assert [(module.name, module.options) for module in loaded.modules] == [("/abs/m.gz", "one two")]
    assert loaded.crypto == ""


def test_a_missing_module_is_fatal_before_anything_is_read(tiny_tftp: Callable[..., TinyTftp]) -> None:
    files = tree()
    del files["img/s.v00"]
    server = tiny_tftp(files)
    with pytest.raises(MbootError, match=r"s\.v00") as stop:
        boot_tftp(server).boot()
    assert stop.value.code == NOT_FOUND
    assert not any("img/b.b00" in line and "tsize" not in line for line in server.requests)


def test_arguments_name_another_configuration_and_add_words(tiny_tftp: Callable[..., TinyTftp]) -> None:
    files = {"cfg/x": b"kernel=/k\nkernelopt=a=1\nnobootif=1", "k": b"k", "more": b"m"}
    arguments = ["-c", "cfg/x", "-E", "5", "-A", "/more", "b=2"]
    loaded = boot_tftp(tiny_tftp(files), arguments=arguments).boot()
    assert loaded.kernel_line == "/k a=1 b=2"
    assert [module.name for module in loaded.modules] == ["/more"]


def test_skip_gives_the_machine_back(tiny_tftp: Callable[..., TinyTftp]) -> None:
    with pytest.raises(BootSkippedError):
        boot_tftp(tiny_tftp({OWN: b"skip=1\n"})).boot()


@pytest.mark.netns
def test_boots_from_dnsmasq(netns_lab: None, tmp_path: Path) -> None:
    """A real TFTP server, one that does not know windowsize."""
    files = tree()
    for name, data in files.items():
        path = tmp_path / "tftp" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with Lab(tmp_path, boot=Boot(server=Lab.gateway, tftp_root=str(tmp_path / "tftp"))) as lab:
        loaded = lab.mw.call(lambda: Mboot(Lab.gateway, MAC).boot())
    assert list(loaded.journal) == SEEN
    assert loaded.modules[4].sha256 == hashlib.sha256(files["img/initrd.b00"]).hexdigest()


# --- HTTP


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    seen: ClassVar[list[str]] = []
    chunked = False

    def do_GET(self) -> None:
        self.seen.append(f"{self.command} {self.path} {self.headers['User-Agent']}")
        name = self.path.partition("?")[0].lstrip("/")
        if name.startswith("moved/"):
            self.send_response(302)
            self.send_header("Location", "/" + name.removeprefix("moved/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = self.files.get(name)
        self.send_response(200 if data is not None else 404)
        body = data or b""
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if self.chunked else body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Web:
    """Python's web server with these files."""

    def __init__(self, files: dict[str, bytes], **traits: object) -> None:
        self.seen: list[str] = []
        handler = type("Handler", (_Handler,), {"files": files, "seen": self.seen, **traits})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def mboot(self, loader: str = "mboot.efi", **options: object) -> Mboot:
        return Mboot(f"127.0.0.1:{self.port}", MAC, mode="http", loader=loader, **options)  # type: ignore[arg-type]


@pytest.fixture
def web() -> Iterator[Callable[..., Web]]:
    servers: list[Web] = []

    def start(files: dict[str, bytes], **traits: object) -> Web:
        servers.append(Web(files, **traits))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def http_tree(config: str) -> dict[str, bytes]:
    return {f"esx/{OWN}": config.encode(), "esx/b.b00": b"kernel", "esx/m.gz": b"module"}


def test_asks_over_http_sizes_first_then_files(web: Callable[..., Web]) -> None:
    files = http_tree("")
    server = web(files)
    base = f"http://127.0.0.1:{server.port}/esx"
    files[f"esx/{OWN}"] = f"prefix={base}\nkernel=b.b00\nmodules=m.gz\nkernelopt=PBHOST=[fd00::3]:1".encode()
    loaded = server.mboot("esx/mboot.efi").boot()
    assert server.seen == [
        f"GET /esx/{OWN} esx-boot/2.0",
        f"GET /esx/{OWN} esx-boot/2.0",
        "HEAD /esx/b.b00 esx-boot/2.0",
        "HEAD /esx/m.gz esx-boot/2.0",
        "GET /esx/crypto64.efi esx-boot/2.0",
        "GET /esx/efi/boot/crypto64.efi esx-boot/2.0",
        "GET /esx/b.b00 esx-boot/2.0",
        "GET /esx/m.gz esx-boot/2.0",
    ]
    assert loaded.kernel_line == f"{base}/b.b00 PBHOST=[fd00::3]:1 BOOTIF=01-52-54-00-00-00-01"


@pytest.mark.parametrize("config", ["prefix=esx\nkernel=b.b00", "kernel=/b.b00", "prefix=/esx\nkernel=b.b00"])
def test_over_http_only_full_urls_do(web: Callable[..., Web], config: str) -> None:
    with pytest.raises(MbootError, match="full URL") as stop:
        web(http_tree(config)).mboot("esx/mboot.efi").boot()
    assert stop.value.code == NOT_FOUND


def test_redirects_are_followed(web: Callable[..., Web]) -> None:
    files = http_tree("")
    server = web(files)
    base = f"http://127.0.0.1:{server.port}/moved/esx"
    files[f"esx/{OWN}"] = f"kernel={base}/b.b00".encode()
    loaded = server.mboot("esx/mboot.efi").boot()
    assert loaded.kernel.sha256 == hashlib.sha256(b"kernel").hexdigest()
    assert f"GET {base}/b.b00" in loaded.journal


def test_an_answer_without_length_is_an_error(web: Callable[..., Web]) -> None:
    with pytest.raises(MbootError, match="no Content-Length"):
        web(http_tree("kernel=b.b00"), chunked=True).mboot("esx/mboot.efi").boot()


def test_a_server_that_closes_after_each_answer_will_do(web: Callable[..., Web]) -> None:
    files = {"esx/boot.cfg": b"kernel=b.b00\nmodules=m.gz", "esx/b.b00": b"kernel", "esx/m.gz": b"module"}
    server = web(files, protocol_version="HTTP/1.0")
    assert server.mboot("esx/mboot.efi").boot().modules[0].size == len(b"module")


def test_arguments_in_the_url_want_their_slashes_escaped(web: Callable[..., Web]) -> None:
    server = web({"cfg/x.cfg": b"kernel=b.b00", "cfg/b.b00": b"k"})
    loaded = server.mboot("mboot.efi?-c&cfg%2Fx.cfg&EXTRA=%2Fa%20b").boot()
    assert loaded.kernel_line.split()[1:3] == ["EXTRA=/a", "b"]
    with pytest.raises(MbootError, match="%2F"):
        server.mboot("mboot.efi?-c&cfg/x.cfg")


def test_query_parameters_go_with_every_request(web: Callable[..., Web]) -> None:
    server = web({"esx/boot.cfg": b"kernel=b.b00", "esx/b.b00": b"kernel"})
    server.mboot("esx/mboot.efi", arguments=["-q", "token=a b"]).boot()
    assert server.seen
    assert all("?token=a%20b " in line for line in server.seen)


# --- boot.cfg


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KERNEL=k\r\nKernelOpt=a  b\r\n", Config("k", kernelopt="a b")),
        ("  # kernel=x\n  kernel=k  \n", Config("k")),
        ("kernel=one\nkernel=two", Config("two")),
        ("kernel= k", Config("k")),
        ("k=x\nmod=a --- b c --- ", Config("x", modules=(("a", ""), ("b", "c")))),
        ("kernel=a b.b00\nprefix=x y", Config("ab.b00", prefix="xy")),
        ("kernel=k\nnobootif=1\ntimeout=\nunknown=5", Config("k", nobootif=True)),
        ("skip=1", Config("", skip=True)),
    ],
)
def test_boot_cfg_is_read_as_the_loader_reads_it(text: str, expected: Config) -> None:
    assert parse(text.encode()) == expected


@pytest.mark.parametrize("text", ["kernel =k", "", "kernel=k\ntimeout=soon", "modules=a"])
def test_boot_cfg_that_stops_the_loader(text: str) -> None:
    with pytest.raises(MbootError) as stop:
        parse(text.encode())
    assert stop.value.code == SYNTAX


@given(st.binary(max_size=300) | st.text("kernlmodusptif=-# \r\n\t019", max_size=120).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_fatal_error(data: bytes) -> None:
    result: Config | MbootError
    try:
        result = parse(data)
    except MbootError as stop:
        result = stop
    assert result.code == SYNTAX if isinstance(result, MbootError) else result.kernel or result.skip
