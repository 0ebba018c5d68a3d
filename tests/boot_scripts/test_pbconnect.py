"""boot/pbconnect under dash and busybox ash, on pretended ESXi and Linux hosts, against a service that listens."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from midwife.wire.bootcmd import find_pbhost
from midwife.wire.callback import HostKey, Phase
from tests.boot_scripts.hosts import BOOT, Host, Midwife

OK = b"MIDWIFE/1 ok attempt=a1 state=called-back\n"
DASH = ("dash",)
ASH = ("busybox", "ash")  # uses its own awk, sed, nc and sleep whatever PATH says, as on ESXi
LINE = "b.b00 PBHOST=192.0.2.7:3500 PBTOKEN=t0k-en BOOTIF=01-52-54-00-12-34-57"

both_shells = pytest.mark.parametrize("shell", [DASH, ASH], ids=["dash", "busybox"])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture
def esxi(host: Host) -> Host:
    host.be_esxi()
    return host


@both_shells
def test_what_an_esxi_host_says(esxi: Host, shell: tuple[str, ...]) -> None:
    esxi.tool("vsish", f"echo '{LINE}'\n")
    key = esxi.root / "etc/ssh/ssh_host_ed25519_key"
    key.parent.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    name, blob, *_ = key.with_suffix(".pub").read_text().split()

    message = esxi.message(shell=shell)

    assert message.token == "t0k-en"
    assert message.phase is Phase.BOOTED
    # Order of ESXi 8: the one that dmidecode prints. A single digit byte has lost its zero.
    assert message.uuid == "4c4c4544-0042-4610-8053-b3c04f345433"
    assert message.serial == "3BFS4T3"
    assert message.macs == ("52:54:00:12:34:57", "52:54:00:12:34:56")  # BOOTIF first
    assert message.version == "VMware ESXi 8.0.3 build-24022510"
    assert message.hostkeys == (HostKey.parse(f"{name}:{blob}"),)
    assert (message.vendor, message.model) == ("Dell Inc.", "PowerEdge R750xs")
    assert message.hostname


@both_shells
def test_what_a_linux_host_says(host: Host, shell: tuple[str, ...]) -> None:
    host.file("proc/cmdline", LINE + "\n")
    for name, value in {
        "product_uuid": "11223344-5566-7788-99aa-bbccddeeff00",
        "product_serial": "S-1",
        "sys_vendor": "QEMU",
        "product_name": "Standard PC (Q35 + ICH9, 2009)",
    }.items():
        host.file(f"sys/class/dmi/id/{name}", value + "\n")
    host.file("sys/class/net/eth0/address", "52:54:00:AA:BB:CC\n")
    host.file("sys/class/net/eth0/device/vendor", "0x1af4\n")
    host.file("sys/class/net/docker0/address", "02:42:00:00:00:01\n")  # has no device: no identity

    message = host.message("-p", "installed", shell=shell)

    assert message.phase is Phase.INSTALLED
    assert (message.uuid, message.serial) == ("11223344-5566-7788-99aa-bbccddeeff00", "S-1")
    assert message.macs == ("52:54:00:12:34:57", "52:54:00:aa:bb:cc")
    assert (message.vendor, message.model) == ("QEMU", "Standard PC (Q35 + ICH9, 2009)")
    assert message.version.startswith("Linux ")


def test_localcli_and_smbiosdump_stand_in_for_a_hostd_that_is_not_up(esxi: Host) -> None:
    esxi.file("etc/midwife.conf", "PBHOST=192.0.2.7:3500\n")
    (esxi.bin / "esxcli").rename(esxi.bin / "localcli")
    esxi.tool("esxcli", "echo 'Connect to localhost failed: Connection failure'; exit 1\n")
    # esxcli prints its errors on stdout; they must not end up in a field
    assert esxi.message().serial == "3BFS4T3"

    esxi.tool("localcli", "exit 1\n")
    esxi.tool(
        "smbiosDump",
        'printf \'  BIOS Info: #0\\n    Vendor: "Dell Inc."\\n  System Info: #256\\n    Manufacturer: "HPE"\\n'
        '    Product: "DL360"\\n    Serial: "S-2"\\n  Board Info: #512\\n    Serial: "no"\\n\'\n',
    )
    message = esxi.message()
    assert (message.vendor, message.model, message.serial) == ("HPE", "DL360", "S-2")


def test_dmidecode_where_sysfs_has_no_dmi(host: Host) -> None:
    host.tool("dmidecode", 'echo "# SMBIOS entry point"; echo "value of $2"\n')

    message = host.message("-h", "192.0.2.7:1")

    assert message.uuid == "value of system-uuid"
    assert message.model == "value of system-product-name"


def test_an_ssh_key_without_its_pub_file(host: Host) -> None:
    (host.bin / "ssh-keygen").symlink_to(str(shutil.which("ssh-keygen")))
    directory = host.root / "etc/ssh"
    directory.mkdir(parents=True)
    for kind, secret in (("ed25519", ""), ("rsa", "passphrase")):
        key = directory / f"ssh_host_{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", secret, "-f", key], check=True)
        pub = key.with_suffix(".pub")
        if kind == "ed25519":
            name, blob, *_ = pub.read_text().split()
        pub.unlink()

    assert host.message().hostkeys == (HostKey.parse(f"{name}:{blob}"),)


@both_shells
@pytest.mark.parametrize(
    "serial", ["a b  c", "100%", "%41", "\"'`$(reboot)`\\n&|;", "Größe ✓", "a\x1b[2J\x07b", "-n", "*"]
)
def test_no_value_can_break_the_line(host: Host, shell: tuple[str, ...], serial: str) -> None:
    host.file("sys/class/dmi/id/product_serial", serial + "\n")

    expected = "".join(c for c in serial if ord(c) >= 32)
    assert host.message(shell=shell).serial == expected


def source(host: Host, name: str, line: str) -> None:
    match name:
        case "bootOption":
            host.tool("bootOption", f"[ \"$1\" = -roC ] && echo '{line}'\n")
        case "vsish":
            host.tool("vsish", f"[ \"$*\" = '-e get /system/bootCmdLine' ] && echo '{line}'\n")
        case "cmdline":
            host.file("proc/cmdline", line + "\n")
        case "log":
            host.file("var/log/messages", f"Apr 23 05:33:16 host kernel: Command line: {line}\n")
        case "file":
            host.file("etc/midwife.conf", f"# where to call\n{line} # not PBHOST=192.0.2.99:9\n")


SOURCES = ["bootOption", "vsish", "cmdline", "log", "file"]


@both_shells
@pytest.mark.parametrize("first", range(len(SOURCES)), ids=SOURCES)
def test_the_first_source_that_names_a_service_wins(host: Host, shell: tuple[str, ...], first: int) -> None:
    for number, name in enumerate(SOURCES):
        if number < first:
            source(host, name, "quiet ro")  # it is there and names nobody
        else:
            source(host, name, f"ro PBHOST=192.0.2.{number + 1}:3500 PBTOKEN=token-{number + 1}")

    assert host.message(shell=shell).token == f"token-{first + 1}"


def test_bootoption_at_its_place_on_esxi(host: Host) -> None:
    path = host.file("sbin/bootOption", f"#!/bin/sh\necho '{LINE}'\n")
    path.chmod(0o755)
    assert host.message().token == "t0k-en"


def test_a_token_counts_only_beside_its_pbhost(host: Host) -> None:
    """The log may be about an older boot."""
    source(host, "cmdline", "PBHOST=192.0.2.1:3500")
    source(host, "log", "PBHOST=192.0.2.1:3500 PBTOKEN=stale")
    assert host.message().token == ""


@both_shells
@pytest.mark.parametrize(
    "line",
    [
        "PBHOST=192.0.2.1:1 PBHOST=127.0.0.1:PORT",
        "PBHOST=127.0.0.1:PORT PBHOST=192.0.2.1",
        "x 'PBHOST=127.0.0.1:PORT'",
        '"esx/b.b00 PBHOST=127.0.0.1:PORT", done',
        "(PBHOST=localhost:PORT)",
        "PBHOST=[::ffff:127.0.0.1]:PORT",
    ],
)
def test_the_shell_reads_command_lines_as_the_service_does(
    host: Host, shell: tuple[str, ...], line: str
) -> None:
    with Midwife(OK) as midwife:
        line = line.replace("PORT", str(midwife.port))
        host.file("proc/cmdline", line + "\n")
        done = host.pbconnect("-r", "1", shell=shell)

        assert done.returncode == 0, done.stdout
        assert str(find_pbhost(line)) in done.stdout
        assert len(midwife.heard) == 1


LOG = """\
Apr 22 05:33:16 vmkernel: sysboot: Executing 'b.b00 PBHOST=192.0.2.66:1 PBTOKEN=stale'
Apr 23 05:33:16 vmkernel: sysboot: Getting 'PBHOST' parameter from kernel boot line
{}
Apr 23 05:40:00 sshd[77]: Invalid user kernel: Command line: PBHOST=203.0.113.9:9 PBTOKEN=evil from 203.0.113.9
"""


@both_shells
@pytest.mark.parametrize(
    ("line", "token"),
    [
        (
            "2026-04-23T05:33:16.000Z vmkernel: TSC: 0 cpu0:1)Boot: cmdline: b.b00 PBHOST=192.0.2.1:1 PBTOKEN=t",
            "t",
        ),
        ("2026-04-23T05:33:16.000Z sysboot: Executing 'b.b00 PBHOST=192.0.2.1:1 PBTOKEN=t'", "t"),
        ("2026-04-23T05:33:16.000Z cpu0:1)Boot: cmdline: PBHOST=192.0.2.1:1 PBTOKEN=t", "t"),
        ("2026-04-23T05:33:16Z jumpstart[12]: Using boot options: PBHOST=192.0.2.1:1 PBTOKEN=t", "t"),
        ("Apr 23 05:33:16 vm kernel: [    0.000000] Command line: PBHOST=192.0.2.1:1 PBTOKEN=t", "t"),
        # booted from its disk this time: the service of the last boot is not called
        ("Apr 23 05:33:16 vm kernel: [    0.000000] Command line: root=/dev/sda1", ""),
    ],
)
def test_the_log_counts_for_its_last_boot_and_only_what_the_system_wrote(
    host: Host, shell: tuple[str, ...], line: str, token: str
) -> None:
    host.file("var/log/messages", LOG.format(line))
    assert host.message(shell=shell).token == token


def test_options_go_before_every_source(host: Host) -> None:
    host.file("proc/cmdline", LINE)
    with Midwife(OK) as midwife:
        assert host.pbconnect("-h", midwife.endpoint, "-t", "mine", "-p", "pre").returncode == 0
    assert midwife.messages[0].token == "mine"
    assert midwife.messages[0].phase is Phase.PRE


@both_shells
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_call(esxi: Host, shell: tuple[str, ...], address: str) -> None:
    with Midwife(OK, address=address) as midwife:
        esxi.file("etc/midwife.conf", f"PBHOST={midwife.endpoint}\nPBTOKEN=t0k-en\n")
        done = esxi.pbconnect(shell=shell)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"pbconnect: midwife at {midwife.endpoint} has heard this host (booted)\n"
    assert [message.token for message in midwife.messages] == ["t0k-en"]
    assert midwife.messages[0].serial == "3BFS4T3"


@pytest.mark.parametrize("name", ["python3", "python"])
def test_python_calls_where_there_is_no_nc(host: Host, name: str) -> None:
    (host.bin / "nc").unlink()
    (host.bin / name).symlink_to(sys.executable)
    with Midwife(OK, address="::1") as midwife:
        assert host.pbconnect("-h", midwife.endpoint, "-t", "tok").returncode == 0
    assert midwife.messages[0].token == "tok"


def test_nothing_to_call_with_is_said(host: Host) -> None:
    (host.bin / "nc").unlink()
    assert "neither nc nor python" in host.pbconnect("-h", "127.0.0.1:1", "-r", "1").stderr


def test_the_token_is_in_no_process_list_and_no_log(esxi: Host) -> None:
    nc = (esxi.bin / "nc").readlink()
    esxi.tool("nc", f'echo "nc $*" >>@ROOT@/processes\nexec {nc} "$@"\n')
    with Midwife(b"MIDWIFE/1 later seconds=1 reason=x\n", OK) as midwife:
        esxi.file("etc/midwife.conf", f"PBHOST={midwife.endpoint} PBTOKEN=s3cret\n")
        done = esxi.pbconnect()
    written = [path.read_text() for path in (esxi.root / "processes", esxi.root / "logger.log")]
    assert midwife.messages[1].token == "s3cret"
    assert "s3cret" not in "".join([*written, done.stdout, done.stderr])
    assert all(written)


def test_later_waits_as_long_as_it_is_told(host: Host) -> None:
    replies = [b"MIDWIFE/1 later seconds=%s reason=busy%%20now\n" % s for s in (b"5", b"400", b"junk", b"0")]
    with Midwife(*replies, OK) as midwife:
        done = host.pbconnect("-h", midwife.endpoint)

    assert done.returncode == 0
    assert [
        low <= waited <= low * 1.25 for low, waited in zip((5, 400, 30, 30), host.slept, strict=True)
    ] == [True] * 4
    assert "says: later, in 5 s: busy now" in done.stdout


def test_without_an_answer_it_waits_longer_and_longer(host: Host) -> None:
    done = host.pbconnect("-h", "127.0.0.1:1", "-r", "9")

    assert done.returncode == 1
    assert [
        low <= waited <= low * 1.25
        for low, waited in zip((1, 2, 4, 8, 16, 32, 60, 60), host.slept, strict=True)
    ] == [True] * 8
    assert done.stdout.count("no answer from midwife at 127.0.0.1:1") == 9


def test_it_tries_until_the_service_is_there(host: Host) -> None:
    """Without -r it never gives up; here the service appears while it sleeps for the seventh time."""
    with Midwife(OK) as midwife:
        nc = (host.bin / "nc").readlink()
        host.tool(
            "nc", f'read -r line\n[ "$(cat @ROOT@/slept | sed -n 7p)" ] || exit 1\necho "$line" | {nc} "$@"\n'
        )
        assert host.pbconnect("-h", midwife.endpoint).returncode == 0
    assert len(host.slept) == 7
    assert len(midwife.heard) == 1


def test_a_refusal_is_said_and_tried_again_once_a_minute(host: Host) -> None:
    refused = b"MIDWIFE/1 refused reason=the%20token%20is%20of%20%1B%5B2Janother%20boot\n"
    with Midwife(refused, refused, OK) as midwife:
        done = host.pbconnect("-h", midwife.endpoint)

    assert done.returncode == 0
    assert f"midwife at {midwife.endpoint} REFUSED this host: the token is of [2Janother boot" in done.stdout
    assert [60 <= waited <= 75 for waited in host.slept] == [True, True]
    assert "REFUSED" in (host.root / "logger.log").read_text()


def test_an_installer_does_not_wait_after_a_refusal(host: Host) -> None:
    with Midwife(b"MIDWIFE/1 refused reason=no\n") as midwife:
        assert host.pbconnect("-h", midwife.endpoint, "-p", "pre", "-r", "4").returncode == 1
    assert host.slept == []


def test_a_service_that_says_nothing_does_not_hold_it(host: Host) -> None:
    """Busybox nc has no time limit of its own."""
    host.tool("timeout", f'shift\nexec {shutil.which("timeout")} 0.3 "$@"\n')
    gate = threading.Event()
    with Midwife(OK) as midwife:
        midwife.on_call = lambda: gate.wait(20)
        done = host.pbconnect("-h", midwife.endpoint, "-r", "1")
        gate.set()
    assert done.returncode == 1
    assert "no answer" in done.stdout


@pytest.mark.parametrize(
    "reply", [b"\n", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\0\xff" * 5000, b"MIDWIFE/2 ok\n"]
)
def test_what_is_no_reply_counts_as_none(host: Host, reply: bytes) -> None:
    with Midwife(reply) as midwife:
        done = host.pbconnect("-h", midwife.endpoint, "-r", "1")
    assert done.returncode == 1
    assert "no answer" in done.stdout


@both_shells
def test_nobody_to_call(host: Host, shell: tuple[str, ...]) -> None:
    host.file("proc/cmdline", "ro quiet PBHOST=192.0.2.1\n")
    done = host.pbconnect(shell=shell)
    assert done.returncode == 3
    assert "PBHOST=192.0.2.1 is not IPv4:port" in done.stdout
    assert "nobody to call" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["-x"], ["-p", "never"], ["-r", "x"], ["-h", "nowhere"], ["-h", "[x]:1"], ["-h", "a:99999"], ["extra"]],
)
def test_wrong_usage(host: Host, arguments: list[str]) -> None:
    done = host.pbconnect(*arguments)
    assert done.returncode == 2
    assert "usage: pbconnect" in done.stderr


# ESXi 6.5: remoteSerialPort reaches every port outwards, and opens ports inwards.
REMOTE_SERIAL = """\
remoteSerialPort  Outbound   TCP       Dst                 0     65535
remoteSerialPort  Inbound    TCP       Dst                23        23
remoteSerialPort  Inbound    TCP       Dst              1024     65535
"""
HTTP_CLIENT = "httpClient  Outbound   TCP       Dst  80  80\nhttpClient  Outbound   TCP       Dst  443  443\n"


def outward(name: str, low: int, high: int) -> str:
    return f"{name}  Outbound   TCP       Dst  {low}  {high}\n"


@both_shells
def test_the_narrowest_outgoing_ruleset_is_open_for_the_call_only(esxi: Host, shell: tuple[str, ...]) -> None:
    during = []
    with Midwife(OK) as midwife:
        midwife.on_call = lambda: during.extend(
            esxi.ruleset(name) for name in ("narrow", "wide", "remoteSerialPort")
        )
        esxi.has_firewall(
            {
                "narrow": "false All",
                "wide": "false All",
                "remoteSerialPort": "false All",
                "httpClient": "false All",
            },
            REMOTE_SERIAL
            + HTTP_CLIENT
            + outward("wide", 1, 65535)
            + outward("narrow", midwife.port - 1, midwife.port),
        )
        assert esxi.pbconnect("-h", midwife.endpoint, shell=shell).returncode == 0

    assert during == ["true All", "false All", "false All"]
    assert esxi.ruleset("narrow") == "false All"


def test_a_ruleset_that_is_open_already_stays_as_it_is(esxi: Host) -> None:
    with Midwife(OK) as midwife:
        esxi.has_firewall(
            {"wide": "true All", "narrow": "false All"},
            outward("wide", 1, 65535) + outward("narrow", midwife.port, midwife.port),
        )
        assert esxi.pbconnect("-h", midwife.endpoint).returncode == 0
    assert " set " not in (esxi.root / "esxcli.log").read_text()


def test_a_ruleset_that_is_open_for_others_only_does_not_count(esxi: Host) -> None:
    """nfsClient: every outgoing port, but only to the NFS servers."""
    during = []
    with Midwife(OK) as midwife:
        midwife.on_call = lambda: during.append(esxi.ruleset("own"))
        esxi.has_firewall(
            {"nfsClient": "true 192.0.2.50", "own": "false All"},
            outward("nfsClient", 0, 65535) + outward("own", 0, 65535),
        )
        assert esxi.pbconnect("-h", midwife.endpoint).returncode == 0
    assert during == ["true All"]
    assert esxi.ruleset("nfsClient") == "true 192.0.2.50"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_ruleset_that_opens_inwards_too_is_narrowed_to_the_service(esxi: Host, address: str) -> None:
    during = []
    with Midwife(OK, address=address) as midwife:
        midwife.on_call = lambda: during.append(esxi.ruleset("remoteSerialPort"))
        esxi.has_firewall(
            {"remoteSerialPort": "false All", "httpClient": "false All"}, REMOTE_SERIAL + HTTP_CLIENT
        )
        assert esxi.pbconnect("-h", midwife.endpoint).returncode == 0

    assert during == [f"true {address}"]
    assert esxi.ruleset("remoteSerialPort") == "false All"
    assert esxi.ruleset("httpClient") == "false All"


def test_somebody_elses_narrowing_is_respected(esxi: Host) -> None:
    with Midwife(OK) as midwife:
        esxi.has_firewall({"remoteSerialPort": "false 192.0.2.50"}, REMOTE_SERIAL)
        done = esxi.pbconnect("-h", midwife.endpoint)
    assert done.returncode == 0
    assert "no ruleset for outgoing TCP port" in done.stdout
    assert " set " not in (esxi.root / "esxcli.log").read_text()


def test_a_name_cannot_narrow_so_nothing_opens_inwards(esxi: Host) -> None:
    with Midwife(OK) as midwife:
        esxi.has_firewall({"remoteSerialPort": "false All"}, REMOTE_SERIAL)
        assert esxi.pbconnect("-h", f"localhost:{midwife.port}").returncode == 0
    assert " set " not in (esxi.root / "esxcli.log").read_text()


def test_a_firewall_that_is_off_is_left_alone(esxi: Host) -> None:
    with Midwife(OK) as midwife:
        esxi.has_firewall({"wide": "false All"}, outward("wide", 0, 65535), enabled=False)
        assert esxi.pbconnect("-h", midwife.endpoint).returncode == 0
    assert "ruleset" not in (esxi.root / "esxcli.log").read_text()


def test_the_firewall_is_closed_between_calls(esxi: Host) -> None:
    esxi.tool("sleep", "cat @ROOT@/firewall/wide >>@ROOT@/while-asleep\n")
    with Midwife(b"MIDWIFE/1 later seconds=1\n", OK) as midwife:
        esxi.has_firewall({"wide": "false All"}, outward("wide", 0, 65535))
        assert esxi.pbconnect("-h", midwife.endpoint).returncode == 0
    assert (esxi.root / "while-asleep").read_text() == "false All\n"


def test_an_interrupted_call_closes_the_firewall(esxi: Host) -> None:
    calling, ended = threading.Event(), threading.Event()
    with Midwife(OK) as midwife:
        midwife.on_call = lambda: (calling.set(), ended.wait(20))
        esxi.has_firewall({"remoteSerialPort": "false All"}, REMOTE_SERIAL)
        with subprocess.Popen(
            esxi.command("-h", midwife.endpoint),
            env=esxi.environment,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert calling.wait(20)
            assert esxi.ruleset("remoteSerialPort") == "true 127.0.0.1"
            os.killpg(process.pid, signal.SIGTERM)  # as the shutdown of a host does
            assert process.wait(20) == 1
            ended.set()
    assert esxi.ruleset("remoteSerialPort") == "false All"


def test_the_scripts_are_clean_for_shellcheck() -> None:
    scripts = [BOOT / "pbconnect", *BOOT.rglob("*.sh")]
    assert len(scripts) == 4
    done = subprocess.run(["shellcheck", "-s", "sh", *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""
