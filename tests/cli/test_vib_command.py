"""``midwife vib``, as somebody types it: with files and no site, and with a site's depots."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from midwife.cli.main import cli
from midwife.images.depot.kept.library import DepotLibrary
from tests.peers.pki import Pki
from tests.peers.vibmaker import make_payload, make_vib, vib

from .sites import midwife, process, write_site

AGENT = {"opt/agent/run.sh": b"#!/bin/sh\n" * 50, "etc/init.d/agent": b"echo\n"}
AGENT_ID = "LAB_bootbank_agent_1.0-1"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki.make()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Path:
    root = tmp_path_factory.mktemp("vibs")
    how: dict[str, object] = {"vendor": "LAB", "acceptance": "community"}
    for version in ("1.0-1", "0.9-1"):
        data = make_vib("agent", version, payloads=[make_payload("agent", AGENT, "tgz")], **how)
        (root / f"agent-{version}.vib").write_bytes(data)
    nic = vib(
        "nic", "2.0-1", payloads=[make_payload("nic", {"usr/lib/vmware/vmkmod/nic": b"x"})], sign=pki,
        acceptance="partner", vendor="Nics", summary="A fine NIC", urls=[("a key", "https://example.org")],
    )  # fmt: skip
    (root / "nic.vib").write_bytes(nic.data)
    return root


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Path:
    root = write_site(tmp_path_factory.mktemp("site"))
    DepotLibrary(root / "data").add(str(files), "lab")
    return root


@pytest.fixture
def root_certificate(tmp_path: Path, pki: Pki) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(pki.root.pem)
    return path


def test_list(site: Path) -> None:
    done = midwife("vib", "list", "--site", site)
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "Name", "Version", "Vendor", "AcceptanceLevel", "ReleaseDate", "Depot", "Summary",
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[1:]] == [
        ["agent", "1.0-1"],
        ["agent", "0.9-1"],
        ["nic", "2.0-1"],
    ]

    def names(*words: str) -> list[str]:
        rows = json.loads(midwife("vib", "list", "-o", "json", *words, "--site", site).stdout)
        assert all(row["Depot"] == "lab" for row in rows)
        return [f"{row['Name']} {row['Version']}" for row in rows]

    assert names("fine") == ["nic 2.0-1"]
    assert names("ag*") == ["agent 1.0-1", "agent 0.9-1"]
    assert names("--newest") == ["agent 1.0-1", "nic 2.0-1"]
    assert names("--vendor", "nics") == ["nic 2.0-1"]
    assert names("--depot", "lab", "nothing") == []
    assert "no such VIBs" in midwife("vib", "list", "nothing", "--site", site).stdout
    assert "there is no depot 'x'" in midwife("vib", "list", "--depot", "x", "--site", site).stderr


def test_list_without_depots(tmp_path: Path) -> None:
    done = midwife("vib", "list", "--site", write_site(tmp_path))
    assert done.stdout == "no VIBs yet; `midwife depot add SOURCE` brings some\n"


def test_show_by_name_id_and_file(site: Path, files: Path) -> None:
    by_name = midwife("vib", "show", "agent", "--site", site, "--files").stdout
    assert f"Guid:              {AGENT_ID}\n" in by_name
    assert "Signature:         community level: the signature is not checked" in by_name
    assert "  etc/init.d/agent\n" in by_name
    assert "agent    tgz" in by_name
    by_id = midwife("vib", "show", AGENT_ID, "--site", site, "-o", "json")
    by_file = midwife("vib", "show", files / "agent-1.0-1.vib", "-o", "json")
    known, file = json.loads(by_id.stdout), json.loads(by_file.stdout)
    assert (known.pop("Depot"), file.pop("Depot")) == ("lab", None)
    assert file.pop("SourceUrls") == [str(files / "agent-1.0-1.vib")]
    assert known.pop("SourceUrls") == [str(files)]
    assert known == file
    older = midwife("vib", "show", "agent=0.9-1", "--site", site).stdout
    assert "Version:           0.9-1" in older


def test_show_what_a_signature_proves(files: Path, root_certificate: Path) -> None:
    path = files / "nic.vib"
    found = json.loads(midwife("vib", "show", path, "-o", "json").stdout)
    assert found["Signature"]["Proven"] is False
    assert found["ReferenceURLs"] == [{"Title": "a key", "URL": "https://example.org"}]
    believed = midwife("vib", "show", path, "--anchor", f"{root_certificate}=partner").stdout
    assert "Signature:         proved, signed by CN=Fine Adapters VIB Signing,O=Fine Adapters Ltd" in believed


def test_verify(site: Path, files: Path, root_certificate: Path, tmp_path: Path) -> None:
    good = midwife("vib", "verify", files / "agent-1.0-1.vib", "--every-checksum")
    assert (good.exit_code, good.stderr) == (0, "")
    assert f"({AGENT_ID}): good (community level: the signature is not checked)" in good.stdout

    whole = midwife("vib", "verify", "--depot", "lab", "--site", site)
    assert whole.exit_code == 1
    assert "Nics_bootbank_nic_2.0-1: 1 problem\n  it claims to be PartnerSupported, but" in whole.stdout
    assert whole.stdout.endswith("3 VIBs: 2 good, 1 bad\n")

    anchored = midwife("vib", "verify", "nic", "--site", site, "--anchor", f"{root_certificate}=partner")
    assert anchored.exit_code == 0
    unchecked = midwife("vib", "verify", "nic", "--site", site, "--no-signature-check")
    assert unchecked.exit_code == 0
    assert "WARNING: signatures are not checked" in unchecked.stderr

    damaged = tmp_path / "damaged.vib"
    data = (files / "agent-1.0-1.vib").read_bytes()
    damaged.write_bytes(data[:-40] + b"?" + data[-39:])
    (tmp_path / "none.vib").write_bytes(b"PK\x03\x04")
    done = midwife("vib", "verify", damaged, tmp_path / "none.vib", tmp_path / "absent.vib", "-o", "json")
    assert done.exit_code == 1
    problems = [report["Problems"] for report in json.loads(done.stdout)]
    assert "sha-256 is" in problems[0][0]
    assert "a zip archive" in problems[1][0]
    assert "cannot open" in problems[2][0]


def test_the_sites_own_anchors(site: Path, root_certificate: Path) -> None:
    partner = site / "trust" / "partner"
    partner.mkdir(parents=True)
    try:
        shutil.copy(root_certificate, partner / "oem.pem")
        assert midwife("vib", "verify", "nic", "--site", site).exit_code == 0
    finally:
        shutil.rmtree(site / "trust")


def test_wrong_use(site: Path, root_certificate: Path, tmp_path: Path) -> None:
    assert midwife("vib", "verify").exit_code == 2
    for anchor in (f"{root_certificate}=best", f"{root_certificate}=community"):
        assert midwife("vib", "verify", "nic", "--site", site, "--anchor", anchor).exit_code == 2
    no_level = midwife("vib", "verify", "nic", "--site", site, "--anchor", root_certificate)
    assert (no_level.exit_code, "say for which level" in no_level.stderr) == (1, True)
    unknown = midwife("vib", "show", "nic-driver", "--site", site)
    assert unknown.exit_code == 1
    assert "there is no VIB 'nic-driver'" in unknown.stderr
    assert midwife("vib", "show", "nic", "--site", tmp_path).exit_code == 1
    assert (
        "has no payload zip; it has: agent"
        in midwife("vib", "extract", "agent", "-d", tmp_path / "x", "--payload", "zip", "--site", site).stderr
    )


def test_extract(site: Path, files: Path, tmp_path: Path) -> None:
    done = midwife("vib", "extract", "agent", "-d", tmp_path / "tree", "--site", site)
    assert done.exit_code == 0
    for name, content in AGENT.items():
        assert (tmp_path / "tree" / name).read_bytes() == content

    raw = tmp_path / "raw"
    raw.mkdir()
    midwife("vib", "extract", files / "nic.vib", "-d", raw, "--raw")
    assert sorted(path.name for path in raw.iterdir()) == ["descriptor.xml", "nic", "sig.pkcs7"]

    again = midwife("vib", "extract", "agent", "-d", tmp_path / "tree", "--site", site)
    assert (again.exit_code, "is not empty" in again.stderr) == (1, True)


def test_nothing_is_left_of_a_failed_extraction(tmp_path: Path) -> None:
    """A link that leads out of the directory, then a file through it; and a file that is called like ours."""
    evil = {"opt/out": "../../../outside", "opt/out/file": b"x"}
    path = tmp_path / "evil.vib"
    path.write_bytes(make_vib("evil", "1-1", payloads=[make_payload("evil", evil, "tgz")]))
    done = midwife("vib", "extract", path, "-d", tmp_path / "tree")
    assert done.exit_code == 1
    clash = tmp_path / "clash.vib"
    clash.write_bytes(make_vib("clash", "1-1", payloads=[make_payload("sig.pkcs7", b"x", "text")]))
    done = midwife("vib", "extract", clash, "-d", tmp_path / "tree", "--raw")
    assert (done.exit_code, "a payload is called sig.pkcs7" in done.stderr) == (1, True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clash.vib", "evil.vib"]


def test_pipes_and_devices_in_place_of_files(tmp_path: Path) -> None:
    """None of them waits for ever, and none is replaced: /dev/null shall stay what it is."""
    pipe = tmp_path / "pipe.vib"
    os.mkfifo(pipe)
    for command in (["show"], ["verify"], ["extract", "-d", tmp_path / "x"]):
        done = midwife("vib", command[0], pipe, *command[1:])
        assert (done.exit_code, "pipe.vib is no file" in done.output) == (1, True)
    (tmp_path / "good.vib").write_bytes(make_vib("good", "1-1"))
    done = midwife("vib", "extract", tmp_path / "good.vib", "-d", pipe)
    assert (done.exit_code, "pipe.vib cannot be used: Not a directory" in done.stderr) == (1, True)
    (tmp_path / "tree" / "opt").mkdir(parents=True)
    (tmp_path / "tree" / "opt" / "a").touch()
    spec = ("--name", "lab", "--version", "1-1", "--vendor", "Lab")
    done = midwife("vib", "build", tmp_path / "tree", "-o", pipe, *spec)
    assert (done.exit_code, "is a device or pipe; give the name" in done.stderr) == (1, True)
    assert pipe.is_fifo()
    (tmp_path / "link.vib").symlink_to(tmp_path / "real.vib")
    assert midwife("vib", "build", tmp_path / "tree", "-o", tmp_path / "link.vib", *spec).exit_code == 0
    assert (tmp_path / "link.vib").is_symlink()
    assert (tmp_path / "real.vib").read_bytes().startswith(b"!<arch>")
    with (tmp_path / "tree" / "opt" / "huge").open("wb") as huge:
        huge.truncate(5 << 30)
    done = midwife("vib", "build", tmp_path / "tree", "-o", tmp_path / "huge.vib", *spec)
    assert (done.exit_code, "a payload holds 4,294,967,296 at most" in done.stderr) == (1, True)


def test_names_of_strangers_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "odd.vib"
    odd = "\u202e\u009b31m"
    path.write_bytes(make_vib("odd", "1-1", summary=f"{odd}x", acceptance="community", tags=[odd]))
    for command in ("show", "verify"):
        done = midwife("vib", command, path)
        assert not any(c in done.output for c in odd[:2])


def test_build_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "opt/agent").mkdir(parents=True)
    (folder / "opt/agent/run.sh").write_text("#!/bin/sh\n")
    spec = tmp_path / "vib.yaml"
    spec.write_text("name: agent\nversion: 1.0-1\nvendor: LAB\nsummary: From the file\ntags: [one, two]\n")
    out = tmp_path / "agent.vib"
    done = midwife(
        "vib", "build", folder, "-o", out, "--spec", spec, "--version", "1.0-2", "--stateless-ready",
        "--depends", "esx-base >= 7.0.0", "--url", "home=https://example.org/?a=b",
        env={"SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: LAB_bootbank_agent_1.0-2\n1 file in the payload agent (tgz, ")
    assert midwife("vib", "verify", out, "--every-checksum").exit_code == 0
    found = json.loads(midwife("vib", "show", out, "-o", "json").stdout)
    assert found["Depends"] == ["esx-base >= 7.0.0"]
    assert (found["Summary"], found["Tags"], found["StatelessReady"]) == (
        "From the file",
        ["one", "two"],
        True,
    )
    assert found["ReferenceURLs"] == [{"Title": "home", "URL": "https://example.org/?a=b"}]
    assert found["ReleaseDate"] == "2023-11-14T22:13:20+00:00"
    assert found["LiveInstallOk"] is False


def test_build_says_what_a_host_would(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_text("x")
    words = (
        "vib",
        "build",
        folder,
        "-o",
        tmp_path / "x.vib",
        "--name",
        "x",
        "--version",
        "1",
        "--vendor",
        "L",
    )
    refused = midwife(*words)
    assert refused.exit_code == 1
    assert "  bin/tool: a community VIB must not put files there" in refused.stderr
    assert not (tmp_path / "x.vib").exists()
    forced = midwife(*words, "--force")
    assert forced.exit_code == 0
    assert "warning: bin/tool" in forced.stderr
    missing = midwife("vib", "build", folder, "-o", tmp_path / "x.vib", "--url", "x")
    assert missing.exit_code == 2
    assert "vendor is missing" in midwife("vib", "build", folder, "-o", tmp_path / "x.vib").stderr
    epoch = midwife(*words, "--force", env={"SOURCE_DATE_EPOCH": "soon"})
    assert "SOURCE_DATE_EPOCH" in epoch.stderr


def test_completion(site: Path, files: Path) -> None:
    complete = ShellComplete(cli, {}, "midwife", "_MIDWIFE_COMPLETE")
    names = complete.get_completions(["vib", "show", "--site", str(site)], "ag")
    assert [item.value for item in names] == ["agent"]
    (path,) = complete.get_completions(["vib", "show", "--site", str(site)], f"{files}/ni")
    assert path.type == "file"


def test_as_a_process_without_a_site(files: Path, tmp_path: Path) -> None:
    done = process("vib", "verify", str(files / "agent-1.0-1.vib"), MIDWIFE_SITE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
