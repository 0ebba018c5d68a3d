"""``midwife image compare`` with a live host: what it printed, or what it says itself over SSH."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.records import Attempt, HostRow
from tests.cli.imagesite import image
from tests.cli.sites import NOW, open_store
from tests.peers.esximage import Content
from tests.peers.sshd import SSHD, HostMachine, OpenSsh, fingerprint_of, new_key, running

HOST_LIST = """\
Name       Version            Vendor  Acceptance Level  Install Date
---------  -----------------  ------  ----------------  ------------
{rows}"""


def test_against_what_a_host_printed(lab: Path, content: Content, tmp_path: Path) -> None:
    rows = [
        f"{vib.name}  {vib.version}  {vib.vendor}  VMwareCertified  2024-05-01"
        for vib in content.standard
        if not vib.dpu
    ]
    listing = tmp_path / "list.txt"
    listing.write_text(HOST_LIST.format(rows="\n".join(rows) + "\n"))
    same = image(lab, "compare", "lab", "--host-output", listing)
    assert same.exit_code == 0, same.output
    listing.write_text(HOST_LIST.format(rows="\n".join(rows[:-1]) + "\n"))
    differ = image(lab, "compare", "lab", "--host-output", listing, "-o", "json")
    assert differ.exit_code == 3
    assert len(json.loads(differ.stdout)["OnlyInRef"]) == 1
    listing.write_text("bash: esxcli: not found\n")
    assert image(lab, "compare", "lab", "--host-output", listing).exit_code == 1


def esxcli(content: Content, *without: str) -> str:
    """A stand-in for esxcli that prints what the host has."""
    rows = [
        f"{vib.name}  {vib.version}  {vib.vendor}  VMwareCertified  2024-05-01"
        for vib in content.standard
        if vib.name not in without and not vib.dpu  # esxcli lists them on the DPU alone
    ]
    listing = HOST_LIST.format(rows="\n".join(rows))
    return f"test \"$1 $2 $3\" = 'software vib list' || exit 1\ncat <<'END'\n{listing}\nEND"


@pytest.fixture
def host(tmp_path: Path, lab: Path, content: Content) -> Iterator[HostMachine]:
    """A host of the site, with sshd and an esxcli; midwife's key may log in."""
    if SSHD is None:
        pytest.skip("needs sshd")
    machine = OpenSsh(tmp_path / "esx-01")
    machine.shim("esxcli", esxcli(content))
    (lab / "hosts").mkdir()
    (lab / "hosts/esx-01.yaml").write_text(
        f"macs: 52:54:00:12:34:56\naddress: 127.0.0.1\n"
        f"ssh: {{port: {machine.port}, user: {machine.user}, key: {os.path.relpath(machine.key, lab)}}}\n"
    )
    with running(machine):
        yield machine


def call_back(site: Path, pins: tuple[str, ...]) -> None:
    """As if the host had called back and told its SSH host keys."""
    store = open_store(site)
    row = HostRow("esx-01", True, Facts(macs=("52:54:00:12:34:56",)), State.READY, NOW, "a-1", "lab", "")
    store.save_host(row)
    store.save_attempt(Attempt("a-1", "esx-01", State.READY, NOW, NOW, pinned=pins), row)
    store.close()


def test_a_live_host_that_called_back(lab: Path, host: HostMachine, content: Content) -> None:
    call_back(lab, host.pins)
    same = image(lab, "compare", "lab", "--host", "esx-01")
    assert same.exit_code == 0, same.output
    assert same.stdout == "lab and esx-01 are equal\n"
    host.shim("esxcli", esxcli(content, "gc"))
    differ = image(lab, "compare", "lab", "--host", "esx-01")
    assert differ.exit_code == 3
    assert differ.stdout.splitlines()[1].split()[:2] == ["OnlyInRef", "gc"]


def test_a_host_key_by_hand(lab: Path, host: HostMachine) -> None:
    unknown = image(lab, "compare", "lab", "--host", "esx-01")
    assert unknown.exit_code == 1
    assert "--host-key" in unknown.stderr
    assert host.connections == 0, "nobody is asked whose key is not known"
    assert image(lab, "compare", "lab", "--host", "esx-01", "--host-key", host.pins[0]).exit_code == 0


def test_an_impostor_is_not_believed(lab: Path, host: HostMachine, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    call_back(lab, (fingerprint_of(other.with_suffix(".pub")),))
    refused = image(lab, "compare", "lab", "--host", "esx-01")
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output
    assert host.pins[0] in refused.stderr


def test_a_host_that_does_not_know_esxcli(lab: Path, host: HostMachine) -> None:
    call_back(lab, host.pins)
    host.shim("esxcli", "echo boom >&2; exit 1")
    failed = image(lab, "compare", "lab", "--host", "esx-01")
    assert failed.exit_code == 1
    assert "exit code 1: boom" in failed.stderr
