"""``midwife explain``: facts, decision, reasons and the answers on the wire, for known hosts and for strangers."""

import json
from pathlib import Path

import pytest

from midwife.core.facts import Facts, Firmware
from midwife.core.lifecycle import State
from midwife.store.records import HostRow

from .sites import MACS, STRANGER, midwife, open_store, write_site

UUID = "11223344-5566-7788-99aa-bbccddeeff00"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = write_site(tmp_path, "proxydhcp:\n  enabled: true\n  interfaces: [lo]\n")
    (root / "rules.yaml").write_text(
        "rules:\n  - name: dells\n    patterns: vendor=Dell Inc.\n"
        "    items: {image: rescue, configuration: base}\n"
    )
    (root / "host-configurations/base.yaml").write_text("steps: [{run: 'true'}]\n")
    with (root / "hosts/esx-01.yaml").open("a") as host:
        host.write("configuration: base\nboot: stateless\n")
    return root


def explain(site: Path, machine: str) -> dict:  # type: ignore[type-arg]
    result = midwife("explain", machine, "-o", "json", "--site", site)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("machine", ["esx-01", MACS["esx-01"], MACS["esx-01"].upper().replace(":", "-")])
def test_a_host_by_any_of_its_names(site: Path, machine: str) -> None:
    told = explain(site, machine)
    assert told["facts"] == {"macs": [MACS["esx-01"]]}
    assert told["decision"] == {
        "host": "esx-01",
        "known": True,
        "action": "boot",
        "image": "rescue",
        "mode": "stateless",
        "configuration": "base",
        "location": "",
        "script_bundle": "",
        "missing": [],
        "refused": "",
        "extensions": {},
        "reasons": [
            f"host file esx-01 has its MAC address {MACS['esx-01']}",
            "image rescue: host file esx-01",
            "configuration base: host file esx-01",
            "boot stateless: host file esx-01",
        ],
    }
    assert {path["firmware"]: path["loads"] for path in told["dhcp"]} == {
        "bios": "undionly.kpxe",
        "efi": "snponly.efi",
        "efi-http": "http://192.0.2.2:8080/snponly.efi",
        "ipxe-bios": "http://192.0.2.2:8080/boot.ipxe",
        "ipxe-efi": "http://192.0.2.2:8080/boot.ipxe",
    }
    assert "kernel http://192.0.2.2:8080/a/preview0/rescue/vmlinuz" in told["ipxe"]
    assert "PBTOKEN=preview0." in told["pxelinux"]
    assert "(refused: esx-01 boots rescue, which is no ESXi image" in told["boot.cfg"]["http"]


def test_the_text_says_the_same(site: Path) -> None:
    text = midwife("explain", "esx-01", "--site", site).stdout
    story = """Facts|Decision|esx-01 boots rescue (stateless)|Because|- image rescue: host file esx-01|DHCP|
bios: undionly.kpxe|HTTP: ipxe?mac=|#!ipxe|TFTP: pxelinux.cfg/01-|DEFAULT midwife|HTTP: 01-…/boot.cfg|(refused: """
    at = 0
    for word in story.replace("\n", "").split("|"):
        at = text.index(word, at)


def test_a_stranger_and_what_was_heard_of_it(site: Path) -> None:
    told = explain(site, STRANGER)
    assert (told["decision"]["action"], told["decision"]["known"]) == ("ask", False)
    assert told["decision"]["missing"] == ["vendor"]
    assert "is asked first: vendor" in midwife("explain", STRANGER, "--site", site).stdout
    assert "it hangs on what iPXE tells: its vendor is not known" in told["ipxe"]
    store = open_store(site)
    facts = Facts(macs=(STRANGER,), uuid=UUID, vendor="Dell Inc.", firmware=Firmware.EFI)
    store.save_host(HostRow(STRANGER, False, facts, State.DISCOVERED, 1.0, "", "", ""))
    store.close()
    for machine in (STRANGER, UUID):
        told = explain(site, machine)
        assert told["facts"]["vendor"] == "Dell Inc."
        assert (told["decision"]["action"], told["decision"]["image"]) == ("boot", "rescue")
        assert told["decision"]["configuration"] == "base"
        assert told["dhcp"][0]["silence"] == "no host file has its MAC address, UUID or serial number"


def test_a_machine_without_a_mac_address(site: Path) -> None:
    told = explain(site, UUID)
    assert told["dhcp"] == []
    text = midwife("explain", UUID, "--site", site).stdout
    assert "no MAC address is known: DHCP answers cannot be shown" in text


def test_its_own_disk(site: Path) -> None:
    told = explain(site, "disk-03")
    assert told["decision"]["action"] == "local"
    assert all("from its own disk" in path["silence"] for path in told["dhcp"])
    assert told["ipxe"].endswith("exit\n")


def test_nonsense(site: Path) -> None:
    result = midwife("explain", "esx-99", "--site", site)
    assert result.exit_code == 1
    assert (
        result.stderr
        == "Error: 'esx-99' is no host of the site (disk-03, esx-01), no MAC address and no UUID\n"
    )


def test_a_site_with_errors(site: Path) -> None:
    (site / "hosts/esx-01.yaml").write_text("macs: nonsense\n")
    result = midwife("explain", "esx-01", "--site", site)
    assert result.exit_code == 1
    assert "hosts/esx-01.yaml:1:" in result.stderr
    assert result.stderr.endswith("nothing was done\n")


def test_it_starts_nothing(site: Path) -> None:
    explain(site, "esx-01")
    assert not (site / "data" / "midwife.db").exists()


def test_patterns_that_auto_deploy_would_refuse_are_marked(site: Path) -> None:
    (site / "rules.yaml").write_text(
        "rules:\n  - {name: mine, patterns: 'mac!=52:54:00:00:00:99', items: {image: rescue}}\n"
        "  - {name: rest, patterns: all, items: {image: rescue, boot: stateless}}\n"
    )
    told = explain(site, STRANGER)["decision"]
    assert told["extensions"] == {"mine": ["mac!=52:54:00:00:00:99"]}
    text = midwife("explain", STRANGER, "--site", site).stdout
    assert "(rule 'mine': mac!=52:54:00:00:00:99 is an extension of midwife's)" in text
