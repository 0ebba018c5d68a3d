"""Real SSH servers as hosts to customize: OpenSSH and dropbear, started by hand for each connection (``-i``).

The listening socket is ours: the port is known before the server is "up", a host can be late, drop connections
or be down for a while, and every server process is known by its pid. As root, each server gets a mount
namespace of its own with a private /etc/passwd, /etc/shadow, PAM service and boot id, so that passwords and
reboots can be tried and the machine's own accounts stay as they are.
"""

import abc
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

PASSWORD = "correct horse battery"

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
DROPBEAR = shutil.which("dropbear", path="/usr/sbin:/usr/bin")


def can_unshare() -> bool:
    """Whether servers can have mount namespaces."""
    return (
        os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    )


def fingerprint_of(public_key: Path) -> str:
    """As ssh-keygen, an independent counterpart, computes it."""
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-E", "sha256", "-f", str(public_key)],
        capture_output=True,
        text=True,
        check=True,
    )
    return printed.stdout.split()[1]


def new_key(path: Path, kind: str = "ed25519") -> Path:
    """A private key made by ssh-keygen; the public one is beside it as .pub."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)],
        check=True,
        capture_output=True,
    )
    return path


class HostMachine(abc.ABC):
    """A machine with an SSH server, a home, a PATH of its own and a boot id."""

    user = pwd.getpwuid(os.geteuid()).pw_name

    def __init__(self, folder: Path, host_keys: tuple[str, ...] = ("ed25519",)) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.shims = folder / "shims"
        for made in (self.home / ".ssh", self.shims, folder / "pam.d"):
            made.mkdir(parents=True)
        folder.chmod(0o755)
        self.home.chmod(0o700)
        (self.home / ".ssh").chmod(0o700)
        self.key = new_key(folder / "client")
        authorized = self.home / ".ssh" / "authorized_keys"
        authorized.write_bytes(self.key.with_suffix(".pub").read_bytes())
        authorized.chmod(0o600)
        self.host_keys = [new_key(folder / f"host_{kind}", kind) for kind in host_keys]
        self.boot_id = folder / "boot_id"
        self.boot_id.write_text(f"{uuid4()}\n")
        self.reboots = 0
        self.refuse = 0
        """So many connections are accepted and closed at once: sshd is on its way down or up."""
        self.connections = 0
        self.log = folder / "server.log"
        self._namespace = can_unshare()
        self._write_accounts()
        self._reboot_shim()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Lock()
        self._servers: list[subprocess.Popen[bytes]] = []
        self._stopping = False
        self._threads: list[threading.Thread] = []

    @property
    def pins(self) -> tuple[str, ...]:
        return tuple(fingerprint_of(key.with_suffix(".pub")) for key in self.host_keys)

    def shim(self, name: str, script: str) -> None:
        """A program on the host's PATH."""
        path = self.shims / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def start(self) -> "HostMachine":
        """From now on the port answers; before, connections are refused."""
        self._socket.listen(16)
        self._in_thread(self._accept)
        self._in_thread(self._hear_reboots)
        return self

    def sessions(self) -> list[int]:
        """Pids of the servers' processes, descendants included."""
        with self._lock:
            roots = [server.pid for server in self._servers if server.poll() is None]
        return [pid for root in roots for pid in (root, *_descendants(root))]

    def kill_sessions(self) -> None:
        """Every connection breaks, as when sshd is restarted or the host goes down."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):  # nobody reads it if it was never started
            os.close(os.open(self.folder / "reboot.fifo", os.O_WRONLY | os.O_NONBLOCK))
        self.kill_sessions()
        for thread in self._threads:
            thread.join(10)
        self.kill_sessions()
        self._socket.close()
        for server in self._servers:
            server.wait(10)

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What serves one connection on its standard input and output."""

    def _in_thread(self, work: object) -> None:
        thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, self._lock:
                self.connections += 1
                if self._stopping:
                    return
                if self.refuse:
                    self.refuse -= 1
                    continue
                with self.log.open("ab") as log:
                    self._servers.append(
                        subprocess.Popen(
                            self._wrapped(), stdin=client, stdout=client, stderr=log, env=self._environment()
                        )
                    )

    def _hear_reboots(self) -> None:
        while not self._stopping:
            if (self.folder / "reboot.fifo").read_text():
                self.reboots += 1
                self.refuse = 2
                self.kill_sessions()

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self.shims}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home)}

    def _reboot_shim(self) -> None:
        os.mkfifo(self.folder / "reboot.fifo")
        self.shim(
            "reboot",
            f"cat /proc/sys/kernel/random/uuid > {self.boot_id}; echo now > {self.folder}/reboot.fifo; exec cat",
        )

    def _write_accounts(self) -> None:
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
        ).stdout.strip()
        sshd_user = "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        (self.folder / "passwd").write_text(f"root:x:0:0:root:{self.home}:/bin/sh\n{sshd_user}")
        (self.folder / "shadow").write_text(f"root:{hashed}:19000:0:99999:7:::\nsshd:!:19000::::::\n")
        (self.folder / "shadow").chmod(0o600)
        (self.folder / "pam.d" / "sshd").write_text(
            "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
        )

    def _wrapped(self) -> list[str]:
        if not self._namespace:
            return self.command()
        binds = {
            "passwd": "/etc/passwd",
            "shadow": "/etc/shadow",
            "pam.d": "/etc/pam.d",
            "boot_id": "/proc/sys/kernel/random/boot_id",
        }
        mounts = "".join(f"mount --bind {self.folder}/{name} {place} && " for name, place in binds.items())
        # sshd wants its privilege separation directory; the machine's own /run stays as it is.
        script = f'{mounts}mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"'
        # A PID namespace too: what a session leaves in the background ends with its server.
        return ["unshare", "-mp", "--fork", "--kill-child", "sh", "-c", script, "sh", *self.command()]


class OpenSsh(HostMachine):
    """OpenSSH, which is what ESXi runs. ``extra`` goes to the front of its configuration."""

    def __init__(
        self, folder: Path, host_keys: tuple[str, ...] = ("ed25519",), extra: str = "", sftp: bool = True
    ) -> None:
        super().__init__(folder, host_keys)
        lines = [
            extra,
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.home}/.ssh/authorized_keys",
            "StrictModes no",
            "PermitRootLogin yes",
            "UsePAM no",
            "PasswordAuthentication yes",
            f"SetEnv PATH={self.shims}:/usr/sbin:/usr/bin:/sbin:/bin",
            "Subsystem sftp internal-sftp" if sftp else "",
        ]
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [str(SSHD), "-i", "-e", "-f", str(self.folder / "sshd_config")]


class Dropbear(HostMachine):
    """dropbear, which is what small Linux images run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dropbear_key = folder / "dropbear_key"
        subprocess.run(
            ["dropbearkey", "-t", "ed25519", "-f", str(self.dropbear_key)], check=True, capture_output=True
        )

    @property
    def pins(self) -> tuple[str, ...]:
        printed = subprocess.run(
            ["dropbearkey", "-y", "-f", str(self.dropbear_key)], capture_output=True, text=True, check=True
        ).stdout
        public = next(line for line in printed.splitlines() if line.startswith("ssh-"))
        file = self.folder / "dropbear.pub"
        file.write_text(public + "\n")
        return (fingerprint_of(file),)

    def command(self) -> list[str]:
        return [str(DROPBEAR), "-i", "-r", str(self.dropbear_key)]


@contextlib.contextmanager
def running(machine: HostMachine) -> Iterator[HostMachine]:
    """Started now, and gone afterwards whatever happens."""
    try:
        yield machine.start()
    finally:
        machine.close()


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]
