"""Pretended hosts for the scripts under boot/: a root directory, a PATH of their own, and a service to call.

The tools' outputs have the formats of real ESXi hosts: ``esxcli hardware platform get`` and ``network nic list``
of ESXi 8, ``network firewall ruleset rule list`` of 6.5.
"""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from midwife.wire.callback import CallbackMessage, parse_message

__all__ = ["BOOT", "PLATFORM", "Host", "Midwife"]

BOOT = Path(__file__).parents[2] / "boot"

# What ESXi's shell has: no tr, base64, curl, grep.
_TOOLS = (
    "awk",
    "cat",
    "chmod",
    "dd",
    "head",
    "mkdir",
    "mv",
    "od",
    "sed",
    "setsid",
    "sh",
    "sort",
    "tail",
    "timeout",
    "true",
)

PLATFORM = """Platform Information
   UUID: 0x4c 0x4c 0x45 0x44 0x0 0x42 0x46 0x10 0x80 0x53 0xb3 0xc0 0x4f 0x34 0x54 0x33
   Product Name: PowerEdge R750xs
   Vendor Name: Dell Inc.
   Serial Number: 3BFS4T3
   Enclosure Serial Number: 3BFS4T3
   BIOS Asset Tag:
   IPMI Supported: true
"""

_NICS = """\
Name    PCI Device    Driver  Admin Status  Link Status  Speed  Duplex  MAC Address         MTU  Description
------  ------------  ------  ------------  -----------  -----  ------  -----------------  ----  -----------
vmnic0  0000:01:00.0  ntg3    Up            Up            1000  Full    52:54:00:12:34:56  1500  Broadcom BCM5720
vmnic1  0000:01:00.1  ntg3    Up            Down             0  Half    52:54:00:12:34:57  1500  Broadcom BCM5720
"""

# The firewall keeps its state in files, one a ruleset: "enabled allowed-addresses".
_ESXCLI = r"""#!/bin/sh
state=@ROOT@/firewall
echo "$*" >>@ROOT@/esxcli.log
case "$*" in
"hardware platform get") cat @ROOT@/platform ;;
"network nic list") cat @ROOT@/nics ;;
"network firewall get")
    [ -d $state ] || exit 1
    printf '   Default Action: DROP\n   Enabled: %s\n   Loaded: true\n' "$(cat @ROOT@/firewall-enabled)" ;;
"network firewall ruleset list")
    printf 'Name  Enabled\n----  -------\n'
    for f in $state/*; do read -r on allowed <$f; echo "${f##*/}  $on"; done ;;
"network firewall ruleset rule list") cat @ROOT@/rules ;;
"network firewall ruleset allowedip list -r "*)
    printf 'Ruleset  Allowed IP Addresses\n-------  --------------------\n'
    read -r on allowed <"$state/$7"
    echo "$7  $allowed" ;;
"network firewall ruleset set -r "*)
    read -r on allowed <"$state/$6"
    case "$7 $8" in
    "-e "*) on=$8 ;;
    "-a true") allowed=All ;;
    "-a false") allowed= ;;
    esac
    echo "$on $allowed" >"$state/$6" ;;
"network firewall ruleset allowedip add -r "*)
    read -r on allowed <"$state/$7"; echo "$on $9" >"$state/$7" ;;
"network firewall ruleset allowedip remove -r "*)
    read -r on allowed <"$state/$7"; echo "$on" >"$state/$7" ;;
*) exit 1 ;;
esac
"""


class Host:
    """A machine as the scripts see it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "path"
        self.bin.mkdir(parents=True)
        for tool in _TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.tool("logger", 'echo "$*" >>@ROOT@/logger.log\n')
        self.tool("sleep", 'echo "$1" >>@ROOT@/slept\n')
        self.tool("uname", 'case $1 in -s) echo Linux ;; *) echo "Linux 6.1.0" ;; esac\n')
        self.tool("hostname", "echo host-01\n")
        (self.bin / "nc").symlink_to(str(shutil.which("nc")))

    def tool(self, name: str, script: str) -> None:
        """A command; ``@ROOT@`` in it stands for the root directory."""
        text = script if script.startswith("#!") else "#!/bin/sh\n" + script
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text.replace("@ROOT@", str(self.root)))
        path.chmod(0o755)

    def file(self, name: str, text: str) -> Path:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def be_esxi(self) -> None:
        self.file("platform", PLATFORM)
        self.file("nics", _NICS)
        self.tool("esxcli", _ESXCLI)
        self.tool("vmware", 'echo "VMware ESXi 8.0.3 build-24022510"\n')

    def has_firewall(self, rulesets: dict[str, str], rules: str, *, enabled: bool = True) -> None:
        """``rulesets``: name -> "enabled allowed"; ``rules``: rows of ``ruleset rule list``."""
        for name, state in rulesets.items():
            self.file(f"firewall/{name}", state + "\n")
        header = "Ruleset  Direction  Protocol  Port Type  Port Begin  Port End\n"
        self.file("rules", header + "-------  ---------  --------  ---------  ----------  --------\n" + rules)
        self.file("firewall-enabled", str(enabled).lower())

    def ruleset(self, name: str) -> str:
        return (self.root / "firewall" / name).read_text().strip()

    def command(self, *arguments: str, shell: tuple[str, ...] = ("dash",)) -> list[str]:
        program = [str(shutil.which(shell[0])), *shell[1:]]
        return [*program, str(BOOT / "pbconnect"), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "PBROOT": str(self.root)}

    def pbconnect(
        self, *arguments: str, shell: tuple[str, ...] = ("dash",)
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, shell=shell),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def message(self, *arguments: str, shell: tuple[str, ...] = ("dash",)) -> CallbackMessage:
        """What ``pbconnect -n`` would send, as the service understands it."""
        done = self.pbconnect("-n", *arguments, shell=shell)
        assert done.returncode == 0, done.stderr
        return parse_message(done.stdout.encode())

    @property
    def slept(self) -> list[int]:
        path = self.root / "slept"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


class Midwife:
    """A service that answers with the given lines in turn, the last one again and again."""

    def __init__(self, *replies: bytes, address: str = "127.0.0.1") -> None:
        self.replies = list(replies)
        self.heard: list[bytes] = []
        self.on_call: Callable[[], object] = lambda: None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family)
        self.port = self._socket.getsockname()[1]
        self.endpoint = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                line = stream.readline()
                if not line:  # woken up to end
                    return
                self.heard.append(line)
                self.on_call()
                connection.sendall(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])

    @property
    def messages(self) -> list[CallbackMessage]:
        return [parse_message(line) for line in self.heard]

    def __enter__(self) -> "Midwife":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the pretended service hangs"
