"""What hangs on an unknown fact is asked, never guessed, and asked once; pins stand between file and rules."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.decide import Action, decide, settle
from midwife.core.facts import ASKABLE, Facts
from midwife.images.objects.profile import HardwareRule
from midwife.site.model import Host, Items, Main, Rule, Site

MAC = "52:54:00:00:00:01"
ME = Facts(macs=(MAC,))
SERIAL = {"name": "by serial", "patterns": "serial=SN-1", "items": {"image": "special"}}
EVERYBODY = {"name": "everybody", "patterns": "all", "items": {"image": "lab"}}


def site(*rules: dict[str, Any], host: dict[str, Any] | None = None, **pins: dict[str, Any]) -> Site:
    return Site(
        root=Path("/site"),
        main=Main.model_validate({"server": {"address": "192.0.2.2"}}),
        hosts=(Host.model_validate({"name": "esx-01", "macs": MAC, **host}),) if host is not None else (),
        rules=tuple(Rule.model_validate(rule) for rule in rules),
        pins={name.replace("_", "-"): Items.model_validate(items) for name, items in pins.items()},
    )


def test_a_fact_that_could_change_the_image_is_asked_for() -> None:
    answer = decide(ME, site(SERIAL, EVERYBODY))
    assert (answer.action, answer.missing) == (Action.ASK, ("serial",))
    assert answer.why == "its serial is not known, and it could change what it gets: it is asked first"


@pytest.mark.parametrize(
    ("told", "image"),
    [
        (Facts(macs=(MAC,), serial="sn-1"), "special"),
        (Facts(macs=(MAC,), serial="SN-2"), "lab"),
        (Facts(macs=(MAC,), asked=ASKABLE), "lab"),
    ],
)
def test_once_it_told_it_is_decided(told: Facts, image: str) -> None:
    answer = decide(told, site(SERIAL, EVERYBODY))
    assert (answer.action, answer.image) == (Action.BOOT, image)


def test_whoever_was_asked_and_has_none_is_none_of_the_others() -> None:
    other = {"name": "others", "patterns": "asset!=A-1", "items": {"image": "lab"}}
    assert decide(ME, site(other)).action is Action.ASK
    assert decide(Facts(macs=(MAC,), asked=ASKABLE), site(other)).image == "lab"


def test_a_fact_that_changes_nothing_is_not_asked_for() -> None:
    """The broad rule comes first; or another pattern of the rule fails already."""
    elsewhere = {**SERIAL, "patterns": ["serial=SN-1", "mac=52:54:00:00:00:09"]}
    for rules in ((EVERYBODY, SERIAL), (elsewhere, EVERYBODY)):
        assert decide(ME, site(*rules)).action is Action.BOOT


def test_what_counts_after_the_boot_keeps_no_host_from_booting() -> None:
    """Its own DHCP server may hand out mboot.efi, which cannot be asked; the call after the boot tells more."""
    place = {
        "name": "place",
        "patterns": "serial=SN-1",
        "items": {"location": "Lab", "configuration": "full"},
    }
    rest = {"name": "rest", "patterns": "all", "items": {"image": "lab", "configuration": "base"}}
    answer = decide(ME, site(place, rest))
    assert (answer.action, answer.image) == (Action.BOOT, "lab")
    assert answer.unsettled == {"configuration": ("serial",), "location": ("serial",)}
    told = settle(Facts(macs=(MAC,), serial="SN-1"), site(place, rest), None, MAC)
    assert (told.configuration, told.location, told.unsettled) == ("full", "Lab", {})
    other = settle(Facts(macs=(MAC,), serial="SN-2"), site(place, rest), None, MAC)
    assert (other.configuration, other.location) == ("base", "")


def test_a_host_file_that_says_what_to_boot_is_never_asked() -> None:
    place = {"name": "place", "patterns": "serial=SN-1", "items": {"boot": "install", "image": "other"}}
    assert decide(ME, site(place, host={"image": "lab", "boot": "stateless"})).action is Action.BOOT
    assert decide(ME, site(place, host={"image": "lab"})).action is Action.ASK
    assert decide(ME, site(SERIAL, host={"boot": "local"})).action is Action.LOCAL, "no image counts there"
    assert decide(ME, site(SERIAL, host={"image": "lab"})).action is Action.BOOT, "its image is its own"


def test_what_its_file_says_of_it_is_known() -> None:
    assert decide(ME, site(SERIAL, EVERYBODY, host={"serial": "SN-1"})).image == "special"


def test_what_it_told_earlier_is_known_and_identifies_nobody() -> None:
    earlier = Facts(serial="SN-1", hostname="old", ipv4="192.0.2.9")
    assert decide(ME, site(SERIAL, EVERYBODY), recorded=earlier).image == "special"
    address = {"name": "net", "patterns": "ipv4=192.0.2.9", "items": {"image": "lab"}}
    assert decide(ME, site(address), recorded=earlier).action is Action.ASK, "addresses change"
    other = Host.model_validate({"name": "other", "serial": "SN-1", "image": "lab"})
    assert decide(ME, site().model_copy(update={"hosts": (other,)}), recorded=earlier).host is None


def test_hardware_is_refused_or_asked_for() -> None:
    images = {"lab": (HardwareRule("Cisco"),)}
    answer = decide(Facts(macs=(MAC,), vendor="Dell Inc."), site(EVERYBODY), images)
    assert (answer.action, answer.why) == (
        Action.WAIT,
        "image lab is for Cisco machines; this one is Dell Inc.",
    )
    assert answer.refused == answer.why
    assert decide(ME, site(EVERYBODY), images).missing == ("vendor",)
    assert decide(Facts(macs=(MAC,), vendor="cisco"), site(EVERYBODY), images).action is Action.BOOT
    assert decide(ME, site(EVERYBODY), None).action is Action.BOOT, "not checked"


def test_host_file_then_pin_then_rules() -> None:
    rules = {
        "name": "all",
        "patterns": "all",
        "items": {"image": "new", "configuration": "new", "boot": "install"},
    }
    pinned = {"image": "old", "configuration": "old"}
    answer = decide(ME, site(rules, host={"image": "own"}, esx_01=pinned))
    assert (answer.image, answer.configuration, answer.mode) == ("own", "old", "install")
    assert dict(answer.given_by) == {"image": "host file", "configuration": "pin", "boot": "'all'"}
    assert "configuration old: pinned as esx-01 in pins.yaml" in answer.reasons
    stranger = site(rules).model_copy(update={"pins": {MAC: Items(image="old")}})
    assert decide(ME, stranger).image == "old"


def test_a_pin_settles_what_would_be_asked() -> None:
    assert decide(ME, site(SERIAL, host={}, esx_01={"image": "lab"})).action is Action.BOOT


def test_location_and_script_bundle_are_in_the_answer() -> None:
    items = {"image": "lab", "location": "Lab/Rack 7", "script-bundle": "lab.tgz"}
    answer = decide(ME, site({"name": "all", "patterns": "all", "items": items}))
    assert (answer.location, answer.script_bundle) == ("Lab/Rack 7", "lab.tgz")


@given(
    st.lists(
        st.builds(
            lambda name, patterns, items: {"name": name, "patterns": patterns or "all", "items": items},
            st.text("abc", min_size=1, max_size=3),
            st.lists(st.sampled_from(["serial=1", "vendor!=x", "version=y*", "relay=192.0.2.1"]), max_size=2),
            st.dictionaries(st.sampled_from(["image", "configuration", "location"]), st.just("lab")),
        ),
        max_size=4,
    ),
    st.sampled_from(["", "x"]),
)
def test_nobody_is_asked_twice(rules: list[dict[str, Any]], vendor: str) -> None:
    told = Facts(macs=(MAC,), vendor=vendor, asked=ASKABLE)
    assert decide(told, site(*rules), {"lab": (HardwareRule("x", ("m",)),)}).action is not Action.ASK
