"""Builds the guest: a Linux kernel and several initrd archives that together look like a booted ESXi host.

Everything is taken from Debian packages that are unpacked and never installed: the small "cloud" kernel,
busybox (the package whose shell looks commands up in PATH, so that the ESXi look-alikes in ``files/esxi``
win), OpenSSH's server, which is what ESXi runs, and the libraries they need. The guest holds nothing of
midwife: the callback comes from the boot module that midwife appends to the initrd list.
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from .cpio import Entry, pack, tree
from .debs import Debs, PackageError

__all__ = ["BOOT_OPTIONS", "Guest", "GuestError", "build_guest"]

BOOT_OPTIONS = "console=ttyS0 quiet"
"""Kernel words the guest wants: its console on the serial port, without the kernel's messages (slow there)."""

_PACKAGES = ("busybox", "openssh-server", "openssh-sftp-server")
_PROGRAMS = ("bin/busybox", "usr/sbin/sshd", "usr/lib/openssh/sftp-server")
_HERE = Path(__file__).parent
# In the order in which they must be loaded: each needs ones before it. The kernel has no virtio built in.
_DRIVERS = (
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "core/failover",
    "net/net_failover",
    "net/virtio_net",
    "vmxnet3/vmxnet3",
    "hw_random/virtio-rng",
)
# Commands the ESXi shell has not (no base64, no tr), and those for which files/esxi brings ESXi's own.
_NOT_IN_ESXI = frozenset({"base64", "tr", "uuidgen", "bash", "lsmod", "modprobe", "dpkg", "rpm"})
_OVERRIDDEN = frozenset({"uname", "logger"})
_SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_rsa_key
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
AuthorizedKeysFile /etc/ssh/keys-%u/authorized_keys
Subsystem sftp /usr/lib/openssh/sftp-server
"""


class GuestError(Exception):
    """The guest cannot be built on this machine; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A built guest. The initrds must all be given, in this order; the boot loader lays them end to end."""

    kernel: Path
    initrds: tuple[Path, ...]
    password: str
    """Of root."""
    host_keys: tuple[str, ...]
    """OpenSSH public keys of its sshd, ``ssh-ed25519 AAAA…``; the same in every machine that boots it."""
    options: str = BOOT_OPTIONS

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a boot loads: kernel first."""
        return (self.kernel, *self.initrds)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """``SHA256:…`` of the host keys, as ssh-keygen -l prints them."""
        return tuple(_fingerprint(key) for key in self.host_keys)


def build_guest(cache: Path, password: str | None = None) -> Guest:
    """The guest, from the cache directory if it was built of the same inputs before. Raises GuestError.

    The root password is ``vmware1!`` unless given here or in MIDWIFE_GUEST_PASSWORD. The first build
    downloads some 35 MB of Debian packages. Several processes may call it at once.
    """
    secret = password or os.environ.get("MIDWIFE_GUEST_PASSWORD") or "vmware1!"
    cache.mkdir(parents=True, exist_ok=True)
    cache = cache.resolve()
    debs = Debs(cache / "debs")
    with _locked(cache / "guest.lock"):
        try:
            kernel = debs.dependency("linux-image-cloud-amd64", r"linux-image-[\d.]+.*-cloud-amd64")
            packages = {kernel, *_PACKAGES} | debs.libraries(_PACKAGES)
            files = debs.files(packages)
            home = cache / f"guest-{_digest(sorted(files.values()), secret)}"
            if not (home / "complete").is_file():
                _build(debs, list(files.values()), home, secret)
        except PackageError as problem:
            raise GuestError(f"the lab's guest cannot be built: {problem}") from None
    return Guest(
        kernel=home / "vmlinuz",
        initrds=tuple(sorted(home.glob("*.cpio.gz"))),
        password=secret,
        host_keys=tuple((home / "host_keys.pub").read_text().splitlines()),
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest(packages: list[str], password: str) -> str:
    """Of everything the result depends on: the packages' versions, the files and code of this directory."""
    digest = hashlib.sha256("\n".join([*packages, password]).encode())
    for path in sorted(p for p in _HERE.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(f"{path.relative_to(_HERE)} {path.stat().st_mode:o}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(debs: Debs, files: list[str], home: Path, password: str) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".building-", dir=home.parent))
    try:
        root = partial / "root"
        debs.unpack(files, root)
        keys = _host_keys()
        archives = {
            "1-base": _base(root, password),
            "2-libs": _libraries(root),
            "3-drivers": _drivers(root),
            "4-openssh": _openssh(root, keys),
            "5-esxi": tree(_HERE / "files" / "esxi"),
        }
        for name, entries in archives.items():
            (partial / f"{name}.cpio.gz").write_bytes(pack(entries))
        (partial / "host_keys.pub").write_text("".join(f"{_public(key)}\n" for key in keys.values()))
        shutil.copy(_one(root, "boot/vmlinuz-*"), partial / "vmlinuz")
        shutil.rmtree(root)
        (partial / "complete").touch()
        shutil.rmtree(home, ignore_errors=True)
        partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _one(root: Path, pattern: str) -> Path:
    """The file at this place, with or without /usr before it: Debian moves files there."""
    found = [*root.glob(pattern), *root.glob(f"usr/{pattern}")]
    if not found:
        raise PackageError(f"the unpacked packages hold no {pattern}: has Debian moved it?")
    return found[0]


def _base(root: Path, password: str) -> dict[str, Entry]:
    busybox = _one(root, _PROGRAMS[0])
    run = [_loader(root), "--library-path", _library_path(root), str(busybox)]
    listed = subprocess.run([*run, "--list"], check=True, capture_output=True, text=True).stdout.split()
    hashed = subprocess.run(
        [*run, "mkpasswd", "-m", "sha512", "-P", "0"],
        input=password,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    entries = tree(_HERE / "files" / "base")
    entries["bin/busybox"] = Entry.file(busybox.read_bytes(), 0o755)
    for applet in set(listed) - _NOT_IN_ESXI - _OVERRIDDEN - {"busybox"}:
        entries[f"bin/{applet}"] = Entry.link("/bin/busybox")
    entries |= {
        "etc/passwd": Entry.file(
            b"root:x:0:0:Administrator:/:/bin/guestsh\nsshd:x:100:65534::/run/sshd:/bin/false\n"
        ),
        "etc/shadow": Entry.file(f"root:{hashed}:19000:0:99999:7:::\n".encode(), 0o600),
        "etc/group": Entry.file(b"root:x:0:\n"),
        "etc/shells": Entry.file(b"/bin/sh\n/bin/guestsh\n"),
        "etc/nsswitch.conf": Entry.file(b"passwd: files\nshadow: files\ngroup: files\nhosts: files dns\n"),
        "etc/hosts": Entry.file(b"127.0.0.1 localhost\n::1 localhost\n"),
    }
    for name in ("dev", "proc", "sys", "run", "etc/rc.local.d", "var/log", "var/lib", "vmfs/volumes", "opt"):
        entries[name] = Entry.directory()
    return entries | {"tmp": Entry.directory(0o1777), "root": Entry.directory(0o700)}


def _loader(root: Path) -> str:
    return str(_one(root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").resolve())


def _library_path(root: Path) -> str:
    return ":".join(str(root / place) for place in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"))


def _libraries(root: Path) -> dict[str, Entry]:
    """The shared libraries that the guest's programs really load, and the loader."""
    entries = {"lib64/ld-linux-x86-64.so.2": Entry.file(Path(_loader(root)).read_bytes(), 0o755)}
    for program in _PROGRAMS:
        listing = subprocess.run(
            [_loader(root), "--library-path", _library_path(root), "--list", str(_one(root, program))],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name, place in re.findall(r"([^\s/]+) => (/\S+)", listing):
            entries[f"usr/lib/x86_64-linux-gnu/{name}"] = Entry.file(Path(place).read_bytes(), 0o755)
    entries["lib/x86_64-linux-gnu"] = Entry.link("/usr/lib/x86_64-linux-gnu")
    return entries


def _drivers(root: Path) -> dict[str, Entry]:
    """The kernel modules as Debian signed them (stripping would break the signature), in loading order."""
    order = "".join(f"{Path(driver).name}\n" for driver in _DRIVERS)
    entries = {"lib/modules/order": Entry.file(order.encode())}
    for driver in _DRIVERS:
        module = _one(root, f"lib/modules/*/kernel/**/{driver}.ko")
        entries[f"lib/modules/{module.name}"] = Entry.file(module.read_bytes())
    return entries


def _openssh(root: Path, keys: dict[str, Ed25519PrivateKey | RSAPrivateKey]) -> dict[str, Entry]:
    entries = {name: Entry.file(_one(root, name).read_bytes(), 0o755) for name in _PROGRAMS[1:]} | {
        "etc/ssh/sshd_config": Entry.file(_SSHD_CONFIG.encode()),
        "etc/ssh/keys-root": Entry.directory(0o700),
        "run/sshd": Entry.directory(),
    }
    for kind, key in keys.items():
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        entries[f"etc/ssh/ssh_host_{kind}_key"] = Entry.file(private, 0o600)
        entries[f"etc/ssh/ssh_host_{kind}_key.pub"] = Entry.file(_public(key).encode() + b"\n")
    return entries


def _host_keys() -> dict[str, Ed25519PrivateKey | RSAPrivateKey]:
    return {"ed25519": Ed25519PrivateKey.generate(), "rsa": generate_private_key(65537, 3072)}


def _public(key: Ed25519PrivateKey | RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _fingerprint(public: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
