"""The guest's parts that can be tried without a machine: ESXi's commands as it knows them, and its archives."""

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .guest.cpio import Entry, pack, tree
from .guest.debs import Debs, PackageError

FILES = Path(__file__).parent / "guest" / "files"
Esxcli = Callable[[str], tuple[int, str]]


@pytest.fixture
def esxcli(tmp_path: Path) -> Esxcli:
    """Runs the guest's esxcli in busybox's shell, as on ESXi, with state and SMBIOS of the test's own."""
    if shutil.which("busybox") is None:
        pytest.skip("no busybox here: install busybox-static")
    dmi = tmp_path / "dmi"
    dmi.mkdir()
    values = {
        "product_uuid": "4c4c4544-004b-4a10-8058-b2c04f585731",
        "product_name": "Crib 1",
        "sys_vendor": "Lab Systems",
        "product_serial": "SN-7",
        "chassis_serial": "CH-7",
        "chassis_asset_tag": "AT-7",
    }
    for name, value in values.items():
        (dmi / name).write_text(value + "\n")
    environment = {
        "PATH": "/bin:/sbin:/usr/bin:/usr/sbin",
        "ESXCLI_STATE": str(tmp_path / "s"),
        "ESXCLI_DMI": str(dmi),
    }

    def run(command: str) -> tuple[int, str]:
        script = FILES / "esxi" / "bin" / "esxcli"
        done = subprocess.run(
            ["busybox", "ash", script, *command.split()], env=environment, capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


def test_the_hostname_is_kept_and_the_machines_own_is_not_touched(esxcli: Esxcli) -> None:
    before = Path("/proc/sys/kernel/hostname").read_text()
    assert esxcli("system hostname set --fqdn=esx-01.lab.local") == (0, "")
    assert esxcli("system hostname set -H esx-02") == (0, "")
    assert esxcli("system hostname get") == (
        0,
        "   Domain Name: lab.local\n   Fully Qualified Domain Name: esx-02.lab.local\n   Host Name: esx-02\n",
    )
    assert Path("/proc/sys/kernel/hostname").read_text() == before


def test_advanced_options_have_types_and_ranges(esxcli: Esxcli) -> None:
    warning = "/UserVars/SuppressShellWarning"
    assert esxcli(f"system settings advanced set -o {warning} -i 1") == (0, "")
    status, listed = esxcli(f"system settings advanced list -o {warning}")
    assert status == 0
    assert "   Int Value: 1\n   Default Int Value: 0\n" in listed
    assert (
        esxcli("system settings advanced set --option /Syslog/global/logHost --string-value udp://h:514")[0]
        == 0
    )
    assert "   String Value: udp://h:514\n" in esxcli("system settings advanced list")[1]
    assert esxcli(f"system settings advanced set -o {warning} -i 2")[0] == 1
    assert esxcli(f"system settings advanced set -o {warning} -d")[0] == 0
    assert "   Int Value: 0\n" in esxcli(f"system settings advanced list -o {warning}")[1]
    assert esxcli("system settings advanced set -o /No/Such -i 1") == (1, "Unable to find option Such\n")


def test_firewall_ruleset_is_opened_and_closed(esxcli: Esxcli) -> None:
    for wanted in ("true", "false"):
        assert esxcli(f"network firewall ruleset set --ruleset-id=httpClient --enabled={wanted}") == (0, "")
        listed = esxcli("network firewall ruleset list -r httpClient")[1]
        assert listed.splitlines()[-1].split() == ["httpClient", wanted]


def test_ntp_and_maintenance_mode_are_kept(esxcli: Esxcli) -> None:
    esxcli("system ntp set --server=a.example --server b.example -e true")
    assert "   Enabled: true\n" in esxcli("system ntp get")[1]
    assert "   Servers: a.example, b.example\n" in esxcli("system ntp get")[1]
    esxcli("system maintenanceMode set -e true")
    assert esxcli("system maintenanceMode get") == (0, "Enabled\n")


def test_the_platform_is_the_machines(esxcli: Esxcli) -> None:
    status, text = esxcli("hardware platform get")
    assert status == 0
    assert "   UUID: 0x4c 0x4c 0x45 0x44 0x0 0x4b 0x4a 0x10 0x80 0x58 0xb2 0xc0 0x4f 0x58 0x57 0x31\n" in text
    assert "   Serial Number: SN-7\n" in text


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("system flavour get", "Error: Unknown command or namespace system flavour get\n"),
        ("--formatter=json system version get", "Unable to find requested formatter: json\n"),
        ("system hostname set --colour=red", "Error: Invalid option --colour\n"),
        (
            "system shutdown reboot -r because",
            "The host must be in maintenance mode to be shut down or rebooted.\n",
        ),
    ],
)
def test_errors_are_printed_on_standard_output_with_status_1(
    esxcli: Esxcli, command: str, answer: str
) -> None:
    assert esxcli(command) == (1, answer)


@pytest.mark.parametrize(
    "script", sorted(p for p in FILES.rglob("*") if p.is_file() and p.stat().st_mode & 0o100)
)
def test_scripts_are_clean(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    done = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True)
    assert done.stdout == ""


def test_archives_laid_end_to_end_unpack_as_one_tree(tmp_path: Path) -> None:
    """As the boot loaders and the kernel have it; read back by GNU cpio."""
    if shutil.which("cpio") is None:
        pytest.skip("no cpio here")
    one = pack({"bin/sh": Entry.link("/bin/busybox"), "etc/shadow": Entry.file(b"secret", 0o600)})
    two = pack({"etc/rc.local.d/zz.sh": Entry.file(b"#!/bin/sh\n", 0o755), "tmp": Entry.directory(0o1777)})
    assert len(one) % 4 == len(two) % 4 == 0
    for archive in (one, two):
        data = gzip.decompress(archive)
        subprocess.run(["cpio", "-idm", "--quiet"], input=data, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "bin/sh").readlink() == Path("/bin/busybox")
    assert (tmp_path / "etc/shadow").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/rc.local.d/zz.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_the_same_tree_gives_the_same_archive() -> None:
    assert pack(tree(FILES / "esxi")) == pack(dict(reversed(tree(FILES / "esxi").items())))


def test_without_apt_the_error_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="apt-cache is not here"):
        Debs(tmp_path).libraries(["busybox"])
