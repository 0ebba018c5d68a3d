"""``midwife rule compliance --repair``: pins are dropped that are in the way, and no others."""

import json
from pathlib import Path

import pytest

from midwife.core.facts import Facts

from .fleetsite import DELL, GOT, dell, make_site, rule, seen
from .sites import MACS, midwife

PINS = f"""\
# agreed with the database people
esx-01: {{image: spare}}   # until spring
'{DELL}':
  image: spare
  configuration: base   # what the rules give, too
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return make_site(tmp_path / "site")


def test_a_pin_is_in_the_way_until_it_is_dropped(site: Path) -> None:
    dell(site, {**GOT, "image": "spare"})
    (site / "pins.yaml").write_text(PINS)
    before = rule(site, "compliance", DELL)
    assert before.stdout.splitlines()[1].endswith("pinned to spare: --repair drops that")
    assert (site / "pins.yaml").read_text() == PINS
    result = rule(site, "compliance", "--repair")
    assert result.exit_code == 3, "it still runs what it got"
    assert "at its next boot: the pin is dropped" in result.stdout
    assert result.stderr == "pins.yaml: 1 host freed; no midwife serve is running; nothing reboots\n"
    assert (site / "pins.yaml").read_text() == PINS.replace("\n  image: spare\n", "\n")
    explained = json.loads(midwife("explain", DELL, "-o", "json", "--site", site).stdout)
    assert explained["decision"]["image"] == "rescue"
    after = rule(site, "compliance", "--repair", DELL)
    assert after.stdout.splitlines()[1].endswith("at its next boot")
    assert after.stderr == "no pin is in the way; nothing was written\n"


def test_a_pin_that_its_own_file_overrules_stays(site: Path) -> None:
    (site / "pins.yaml").write_text("esx-01: {image: spare}\n")
    facts = Facts(macs=(MACS["esx-01"],), asked=("vendor", "model"))
    seen(site, "esx-01", facts, {**GOT, "configuration": ""})
    assert rule(site, "compliance", "esx-01", "--repair").exit_code == 0
    assert (site / "pins.yaml").read_text() == "esx-01: {image: spare}\n"


def test_a_whole_pin_goes(site: Path) -> None:
    dell(site, GOT)
    (site / "pins.yaml").write_text(f"'{DELL}': {{image: spare}}\nesx-01: {{image: spare}}\n")
    told = json.loads(rule(site, "compliance", DELL, "--repair", "-o", "json").stdout)
    assert told["hosts"][0]["differences"] == [
        {"item": "image", "got": "rescue", "expected": "rescue", "rule": "dells", "pinned": "spare",
         "pin_dropped": True}
    ]  # fmt: skip
    assert (site / "pins.yaml").read_text() == "esx-01: {image: spare}\n"
    assert rule(site, "compliance", DELL).exit_code == 0


def test_pins_that_cannot_be_changed_by_a_command(site: Path) -> None:
    dell(site, GOT)
    text = f"{{'{DELL}': {{image: spare}}, esx-01: {{image: spare}}}}\n"
    (site / "pins.yaml").write_text(text)
    result = rule(site, "compliance", "--repair")
    assert (site / "pins.yaml").read_text() == text
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: pins.yaml is not changed: ")
