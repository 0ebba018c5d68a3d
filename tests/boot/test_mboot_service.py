"""The whole service on this machine's loopback, without root and without virtual machines: an ESXi image is
imported, the stand-in for ESXi's loader boots it over TFTP and HTTP, the boot module's own scripts call back,
and an OpenSSH server is the host that is customized.

Hosts are at 127.0.0.1; 127.0.0.2 is somebody else on the boot network. Every test has a host of its own.
"""

import hashlib
import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from tests.boot_scripts.hosts import BOOT, Host
from tests.peers.esxiso import MODULES, look_alike
from tests.peers.sshd import SSHD, OpenSsh

from .mboot import Loaded, Mboot
from .mboot_cfg import parse
from .mboot_http import HttpFiles
from .mboot_tftp import TftpFiles
from .service import SECRET, Service
from .usernet import UserNet, free_port

IMAGE = "esxi-8"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
HOSTS = (
    "by-tftp", "by-http", "installed", "by-hand", "caller", "twice", "copied", "snooped", "udp", "post",
    "claimant", "pushed",
)  # fmt: skip
SHELLS = {"ash": ("busybox", "ash"), "dash": ("dash",)}
Proto = Literal["tftp", "http"]


@dataclass(frozen=True, slots=True)
class Farm:
    """The running service, what its image holds, and the host that can be logged in to."""

    service: Service
    content: dict[str, bytes]
    ports: dict[str, int]
    sshd: OpenSsh

    def mac(self, host: str) -> str:
        return f"52:54:00:12:34:{HOSTS.index(host):02x}"

    def files(self, proto: Proto, journal: list[str]) -> TftpFiles | HttpFiles:
        return TftpFiles(HERE, self.ports["tftp"], journal) if proto == "tftp" else HttpFiles(journal)

    def boot_cfg_name(self, host: str, proto: Proto) -> str:
        name = f"{IMAGE}/01-{self.mac(host).replace(':', '-')}/boot.cfg"
        return name if proto == "tftp" else f"http://{HERE}:{self.ports['http']}/{name}"

    def boot_cfg(self, host: str, proto: Proto = "http") -> bytes:
        """As the loader fetches it, from 127.0.0.1."""
        return self.files(proto, []).read(self.boot_cfg_name(host, proto))

    def mboot(self, host: str, proto: Proto = "http") -> Loaded:
        """The firmware has loaded mboot.efi out of the image; it does all it does up to the kernel's start."""
        server = f"{HERE}:{self.ports[proto]}"
        return Mboot(server, self.mac(host), proto, loader=f"{IMAGE}/mboot.efi").boot()

    def state(self, host: str) -> str:
        return str(self.service.status(host)["state"])

    def event(self, host: str, kind: str, text: str = "", since: int = 0) -> str:
        """Waits for it."""
        return self.service.wait_event(host, kind, 20, text=text, since=since)

    def kinds(self, host: str) -> list[str]:
        return [event["kind"] for event in self.service.events(host)]

    def call(self, line: str, source: str = HERE) -> str:
        """One line over TCP, and the line that comes back."""
        where = (HERE, self.ports["callback"])
        with socket.create_connection(where, timeout=20, source_address=(source, 0)) as connection:
            connection.sendall(line.encode() + b"\n")
            return connection.makefile().readline().strip()


def token_of(boot_cfg: bytes) -> str:
    words = parse(boot_cfg).kernelopt.split()
    return next(word for word in words if word.startswith("PBTOKEN=")).partition("=")[2]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    if SSHD is None:
        pytest.skip("no sshd here: install openssh-server")
    with closing(OpenSsh(tmp_path_factory.mktemp("sshd") / "host")) as host:
        host.start()
        yield host


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, sshd: OpenSsh) -> Iterator[Farm]:
    home = tmp_path_factory.mktemp("farm")
    iso = look_alike(home)
    ports = {name: free_port(kind) for name, kind in _LISTENERS.items()}
    site = _site(home / "site", ports, sshd)
    with UserNet(home / "logs") as here:
        service = Service(here, site)
        told = service.cli("image", "import", str(iso.path), "--name", IMAGE)
        assert f"Hosts get it with `image: {IMAGE}`" in told
        assert "with the boot module" in service.cli("image", "netboot", IMAGE)
        service.start()
        yield Farm(service, dict(iso.content), ports, sshd)


_LISTENERS = {"tftp": socket.SOCK_DGRAM, "http": socket.SOCK_STREAM, "callback": socket.SOCK_STREAM}


def _site(root: Path, ports: dict[str, int], sshd: OpenSsh) -> Path:
    hosts: dict[str, dict[str, Any]] = {
        name: {"macs": f"52:54:00:12:34:{number:02x}", "image": IMAGE} for number, name in enumerate(HOSTS)
    }
    hosts["by-hand"] |= {"boot": "install"}
    hosts["installed"] |= {"boot": "install", "options": "ks=http://192.0.2.5/ks.cfg netdevice=vmnic0"}
    hosts["pushed"] |= {"configuration": "base", "ssh": {"port": str(sshd.port), "user": sshd.user}}
    steps = [
        {"name": "mark", "run": f"echo {{{{ host.name }}}} {{{{ facts.serial }}}} >> {sshd.home}/mark"},
        {
            "name": "token",
            "content": "{{ secret('agent-token') }}\n",
            "to": f"{sshd.home}/token",
            "mode": "0600",
        },
    ]
    main = {
        "server": {"address": HERE},
        **{name: {"listen": f"{HERE}:{port}"} for name, port in ports.items()},
        "secrets": {"agent-token": "env:LAB_AGENT_TOKEN"},
    }
    files = {
        "midwife.yaml": main,
        "rules.yaml": {"rules": []},
        "host-configurations/base.yaml": {"steps": steps},
        **{f"hosts/{name}.yaml": host for name, host in hosts.items()},
    }
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(data, sort_keys=False))
    return root


def as_host(farm: Farm, host: str, loaded: Loaded, root: Path) -> Host:
    """What the kernel makes of the load: the boot module unpacked, the boot line where ESXi shows it."""
    machine = Host(root)
    machine.be_esxi()
    nics = root / "nics"
    nics.write_text(nics.read_text().replace("52:54:00:12:34:56", farm.mac(host)))
    module = loaded.modules[-1].name
    proto: Proto = "http" if "://" in module else "tftp"
    subprocess.run(["tar", "-xz", "-C", root], input=farm.files(proto, []).read(module), check=True)
    shown = machine.file("sbin/bootOption", f"#!/bin/sh\necho '{loaded.kernel_line}'\n")
    shown.chmod(0o755)
    public = farm.sshd.host_keys[0].with_suffix(".pub").read_text()
    machine.file("etc/ssh/ssh_host_ed25519_key.pub", public)
    return machine


def pbconnect(machine: Host, shell: tuple[str, ...] = ("busybox", "ash")) -> subprocess.CompletedProcess[str]:
    """The client that came in the boot module; it gives up after the third call."""
    program = shutil.which(shell[0])
    if program is None:
        pytest.skip(f"no {shell[0]} here")
    script = machine.root / "opt/midwife/pbconnect"
    return subprocess.run(
        [program, *shell[1:], str(script), "-r", "3"],
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- loading


@pytest.mark.parametrize(("host", "proto"), [("by-tftp", "tftp"), ("by-http", "http")])
def test_mboot_loads_the_image(farm: Farm, host: str, proto: Proto) -> None:
    first, second = farm.boot_cfg(host, proto), farm.boot_cfg(host, proto)
    assert first == second, "mboot fetches it twice, and must see the same"
    loaded = farm.mboot(host, proto)
    status = farm.service.status(host)
    attempt = status["attempt"]

    words = loaded.kernel_line.split()
    assert words[1:3] == [f"PBHOST={HERE}:{farm.ports['callback']}", f"PBTOKEN={token_of(first)}"]
    assert words[-1] == f"BOOTIF=01-{farm.mac(host).replace(':', '-')}"
    assert not {"cdromBoot", "runweasel"} & set(words), "these would start the installer"

    base = (
        f"a/{attempt}/{IMAGE}"
        if proto == "tftp"
        else f"http://{HERE}:{farm.ports['http']}/a/{attempt}/{IMAGE}"
    )
    assert parse(first).prefix == base
    names = [module.name for module in (loaded.kernel, *loaded.modules)]
    assert names == [f"{base}/{name}" for name in ("b.b00", *MODULES, "midwife.tgz")]
    shas = [module.sha256 for module in (loaded.kernel, *loaded.modules[:-1])]
    assert shas == [hashlib.sha256(farm.content[name]).hexdigest() for name in ("b.b00", *MODULES)]
    assert loaded.crypto.endswith("/crypto64.efi"), "ESXi 7.0 U2 and later need it under Secure Boot"

    farm.event(host, "booted", f"all {len(names)} files served")
    status = farm.service.status(host)
    assert (status["state"], status["files_done"], status["files"]) == ("booted", len(names), len(names))
    assert status["bytes_done"] == status["bytes"] == sum(m.size for m in (loaded.kernel, *loaded.modules))
    assert farm.service.rows("SELECT count(*) FROM attempts WHERE host = ?", host) == [(1,)]
    told = [(event["kind"], event["text"]) for event in farm.service.events(host)]
    assert [kind for kind, _ in told if kind not in ("config", "loader")] == ["boot", "loading", "booted"]
    assert not [text for kind, text in told if kind == "loader" and "boot.cfg" in text], "it is no loader"


@pytest.mark.parametrize("proto", ["tftp", "http"])
def test_the_firmware_gets_the_loader_out_of_the_image(farm: Farm, proto: Proto) -> None:
    name = (
        f"{IMAGE}/mboot.efi" if proto == "tftp" else f"http://{HERE}:{farm.ports['http']}/{IMAGE}/mboot.efi"
    )
    assert farm.files(proto, []).read(name) == farm.content["efi/boot/bootx64.efi"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("installed", ["ks=http://192.0.2.5/ks.cfg", "netdevice=vmnic0"]),  # ks= takes runweasel's place
        ("by-hand", ["runweasel"]),
    ],
)
def test_a_host_that_installs_starts_the_installer(farm: Farm, host: str, words: list[str]) -> None:
    config = farm.boot_cfg(host, "tftp")
    ours = [f"PBHOST={HERE}:{farm.ports['callback']}", f"PBTOKEN={token_of(config)}"]
    assert sorted(parse(config).kernelopt.split()) == sorted([*ours, *words]), "and nothing of a CD drive"


# --- calling back


@pytest.mark.parametrize("shell", SHELLS)
def test_the_boot_modules_client_calls_back(farm: Farm, tmp_path: Path, shell: str) -> None:
    """Twice the same host: as it was reset, its second boot is an attempt of its own."""
    since = farm.service.log.mark()
    loaded = farm.mboot("caller")
    machine = as_host(farm, "caller", loaded, tmp_path / "host")
    assert (machine.root / "opt/midwife/pbconnect").read_bytes() == (BOOT / "pbconnect").read_bytes()
    said = pbconnect(machine, SHELLS[shell])
    assert (said.returncode, "has heard this host" in said.stdout) == (0, True), said.stdout + said.stderr
    farm.event("caller", "callback", f"called back from {HERE} over tcp: VMware ESXi 8.0.3", since)
    farm.event("caller", "ready", since=since)
    status = farm.service.status("caller")
    assert (status["state"], status["attempt"] in loaded.kernel_line) == ("ready", True)
    query = "SELECT pinned FROM attempts WHERE id = ?"
    ((pinned,),) = farm.service.rows(query, status["attempt"])
    key = farm.sshd.host_keys[0].with_suffix(".pub").read_text().split()
    assert json.loads(pinned) == [f"{key[0]}:{key[1]}"]


def test_a_second_callback_starts_nothing(farm: Farm, tmp_path: Path) -> None:
    machine = as_host(farm, "twice", farm.mboot("twice"), tmp_path / "host")
    for _ in range(2):
        assert pbconnect(machine).returncode == 0
    farm.event("twice", "callback-again")
    kinds = farm.kinds("twice")
    assert [kinds.count(kind) for kind in ("boot", "callback", "callback-again", "ready")] == [1, 1, 1, 1]


def test_a_token_counts_only_at_its_address_and_only_until_the_next_boot(farm: Farm) -> None:
    token = token_of(farm.boot_cfg("copied"))
    said = farm.call(f"MIDWIFE/1 token={token}", source=ELSEWHERE)
    assert said.startswith("MIDWIFE/1 refused ")
    farm.event("copied", "callback-refused", f"from {ELSEWHERE} refused: its token belongs to {HERE}")
    assert farm.state("copied") == "loading"
    # The host loads something, is reset, and asks again: a new attempt, and the old token is history.
    farm.mboot("copied")
    farm.event("copied", "booted")
    fresh = token_of(farm.boot_cfg("copied"))
    assert fresh.split(".")[0] != token.split(".")[0]
    assert farm.call(f"MIDWIFE/1 token={token}").startswith("MIDWIFE/1 refused ")
    farm.event("copied", "callback-refused", "booted again since")
    assert farm.state("copied") == "loading"
    assert farm.call(f"MIDWIFE/1 token={fresh}").startswith("MIDWIFE/1 ok ")
    farm.event("copied", "ready")


def test_a_configuration_fetched_from_elsewhere_is_flagged_and_its_token_worth_nothing(farm: Farm) -> None:
    """It names the same host, and might be anybody: only the first address owns the attempt."""
    mine = token_of(farm.boot_cfg("snooped"))
    where = (HERE, farm.ports["http"])
    with closing(http.client.HTTPConnection(*where, timeout=20, source_address=(ELSEWHERE, 0))) as snoop:
        snoop.request("GET", "/" + farm.boot_cfg_name("snooped", "tftp"))
        stolen = token_of(snoop.getresponse().read())
    assert stolen != mine
    farm.event("snooped", "flagged", f"fetched from {ELSEWHERE} while {HERE} is booting: its token is worth")
    for source in (HERE, ELSEWHERE):
        assert farm.call(f"MIDWIFE/1 token={stolen}", source).startswith("MIDWIFE/1 refused "), source
    assert farm.state("snooped") == "loading"
    assert farm.call(f"MIDWIFE/1 token={mine}").startswith("MIDWIFE/1 ok ")
    farm.event("snooped", "ready")


def test_a_datagram_carries_the_same_message(farm: Farm) -> None:
    token = token_of(farm.boot_cfg("udp"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(20)
        caller.connect((HERE, farm.ports["callback"]))
        caller.send(f"MIDWIFE/1 token={token} version=VMware%20ESXi\n".encode())
        assert caller.recv(2048).startswith(b"MIDWIFE/1 ok ")
    farm.event("udp", "callback", "over udp: VMware ESXi")
    farm.event("udp", "ready")


def test_a_post_of_http_1_0_carries_the_same_message(farm: Farm) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    token = token_of(farm.boot_cfg("post"))
    url = f"http://{HERE}:{farm.ports['callback']}/"
    message = f"MIDWIFE/1 token={token} version=VMware%20ESXi"
    done = subprocess.run(
        ["curl", "-sS", "--http1.0", "-w", "%{http_code}", "--data-binary", "@-", url],
        input=message, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.startswith("MIDWIFE/1 ok "), done
    assert done.stdout.endswith("200")
    farm.event("post", "callback", "over http: VMware ESXi")
    farm.event("post", "ready")


def test_a_callback_without_a_token_is_recorded_and_nothing_more(farm: Farm) -> None:
    farm.boot_cfg("claimant")
    said = farm.call(f"MIDWIFE/1 macs={farm.mac('claimant')} hostname=claimant")
    assert said == "MIDWIFE/1 ok state=recorded"
    farm.event("claimant", "callback-unauthenticated", "without a token: recorded, nothing is pushed")
    assert farm.state("claimant") == "loading"
    assert farm.service.rows("SELECT * FROM runs WHERE host = 'claimant'") == []


# --- and all of it together


def test_a_host_is_loaded_calls_back_and_is_customized_over_ssh(farm: Farm, tmp_path: Path) -> None:
    """The service's public key reaches the host in the boot module; its host key is pinned by the callback."""
    machine = as_host(farm, "pushed", farm.mboot("pushed", "tftp"), tmp_path / "host")
    authorized = farm.sshd.home / ".ssh/authorized_keys"
    authorized.write_text((machine.root / "opt/midwife/authorized_key").read_text())
    assert pbconnect(machine).returncode == 0
    farm.event("pushed", "ready", "customized in .* 2 steps changed something")
    assert (farm.sshd.home / "mark").read_text() == "pushed 3BFS4T3\n"
    token = farm.sshd.home / "token"
    assert (token.read_text(), token.stat().st_mode & 0o777) == (f"{SECRET}\n", 0o600)
    # Called again, nothing is done again.
    assert pbconnect(machine).returncode == 0
    farm.event("pushed", "callback-again")
    assert (farm.sshd.home / "mark").read_text() == "pushed 3BFS4T3\n"
    kinds = farm.kinds("pushed")
    assert [kinds.count(kind) for kind in ("customizing", "step-done", "ready")] == [1, 2, 1]
    told = farm.service.cli("events", "-o", "json") + farm.service.log.text()
    data = b"".join(path.read_bytes() for path in farm.service.site.glob("data/midwife.db*"))
    assert SECRET not in told
    assert SECRET.encode() not in data
