"""Finding VIBs and profiles over several depots."""

import pytest

from midwife.images.errors import ProfileError
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import HardwarePlatform
from midwife.images.objects.profile import HardwareRule
from midwife.images.profile.catalogue import Catalogue
from tests.images.profile.miniature import (
    agent,
    base,
    esxi,
    inbox_driver,
    oem_driver,
    package,
    resolved,
    shelf,
)

STANDARD = resolved(esxi(), name="ESXi-8.0U3b-24280767-standard").profile


@pytest.fixture
def catalogue() -> Catalogue:
    """VMware's depot, an OEM's, and the lab's own."""
    return Catalogue(
        [
            shelf("vmware", *esxi(), profiles=[STANDARD]),
            shelf("acme", oem_driver(), inbox_driver("2.5-1OEM.803")),
            shelf("lab", agent("1.0.0-1"), agent("1.0.0-2")),
        ]
    )


def refusal(catalogue: Catalogue, text: str, depot: str | None = None) -> str:
    with pytest.raises(ProfileError) as error:
        catalogue.find(text, depot)
    return str(error.value)


def test_by_id_by_name_and_by_version(catalogue: Catalogue) -> None:
    assert catalogue.find("Lab_bootbank_lab-agent_1.0.0-1").package.version == "1.0.0-1"
    assert catalogue.find("lab-agent").package.version == "1.0.0-2"
    assert catalogue.find("lab-agent=1.0.0-1").package.version == "1.0.0-1"


def test_the_newest_of_all_depots_or_of_one(catalogue: Catalogue) -> None:
    newest = catalogue.find("i40en")
    assert (newest.package.version, newest.depot) == ("2.5-1OEM.803", "acme")
    assert catalogue.find("i40en", "vmware").package.version == "1.11-1vmw.803"
    assert catalogue.find("vmware:i40en").package.version == "1.11-1vmw.803"
    assert catalogue.find(f"vmware:{inbox_driver().id}").package == inbox_driver()


def test_what_is_not_there_and_what_is_near(catalogue: Catalogue) -> None:
    assert refusal(catalogue, "lab-agnet") == (
        "there is no VIB 'lab-agnet' in the depots vmware, acme, lab; nearest: lab-agent"
    )
    assert refusal(catalogue, "lab-agent=2.0") == (
        "there is no VIB 'lab-agent=2.0' in the depots vmware, acme, lab; there are the versions 1.0.0-2, 1.0.0-1"
    )
    assert "nearest: Lab_bootbank_lab-agent_1.0.0-2" in refusal(catalogue, "Lab_bootbank_lab-agent_1.0.0-3")
    assert refusal(catalogue, "esx-base", "lab").startswith("there is no VIB 'esx-base' in depot lab")
    assert refusal(catalogue, "x", "moon") == "there is no depot 'moon'; there are: vmware, acme, lab"
    assert "there are none yet; `midwife depot add` brings one" in refusal(Catalogue([]), "x")


def test_equal_contents_in_two_depots_are_one_vib() -> None:
    both = Catalogue([shelf("one", agent()), shelf("two", agent())])
    assert both.find("lab-agent").depot == "one"
    assert both.find("lab-agent", "two").depot == "two"
    assert len(both.all()) == 2
    assert len(both.search(newest=True)) == 1


def test_one_id_with_two_contents_asks_which() -> None:
    """As ghettoVCB was published eleven times."""
    both = Catalogue([shelf("one", agent()), shelf("two", agent(sum="1" * 64))])
    for text in ("lab-agent", "lab-agent=1.0.0-1", agent().id):
        assert refusal(both, text) == (
            f"{agent().id} is in the depots one and two with different contents:"
            f" say which with --depot, or write one:{agent().id}"
        )
    assert both.find("two:lab-agent").package.payloads[0].checksums[0].value == "1" * 64


def test_equal_versions_of_two_vendors_ask_for_the_id() -> None:
    both = Catalogue([shelf("one", package("ne1000", vendor="VMW"), package("ne1000", vendor="ACME"))])
    assert refusal(both, "ne1000") == (
        "'ne1000' can be ACME_bootbank_ne1000_1.0-1 or VMW_bootbank_ne1000_1.0-1: give the id"
    )


def test_search(catalogue: Catalogue) -> None:
    assert [one.package.version for one in catalogue.search("LAB-A")] == ["1.0.0-2", "1.0.0-1"]
    assert [one.package.version for one in catalogue.search("lab-a", newest=True)] == ["1.0.0-2"]
    assert [one.package.name for one in catalogue.search(vendor="acme")] == ["i40en-acme"]
    assert [one.package.version for one in catalogue.search("i40en", depot="vmware")] == ["1.11-1vmw.803"]
    assert catalogue.search(tag="driver") == ()
    names = [one.package.name for one in catalogue.all()]
    assert names == sorted(names)


def test_profiles_by_name_depot_and_vendor(catalogue: Catalogue) -> None:
    assert catalogue.profile("ESXi-8.0U3b-24280767-standard") == ("vmware", STANDARD)
    assert catalogue.profile("vmware:ESXi-8.0U3b-24280767-standard", vendor="Lab")[0] == "vmware"
    with pytest.raises(ProfileError, match=r"nearest: ESXi-8\.0U3b-24280767-standard"):
        catalogue.profile("ESXi-8.0U3b-24280767-standart")
    with pytest.raises(ProfileError, match="in depot lab"):
        catalogue.profile(STANDARD.name, "lab")


def test_one_name_for_two_profiles_asks_which() -> None:
    less = resolved(esxi()[:3], name=STANDARD.name).profile
    two = Catalogue([shelf("a", profiles=[STANDARD]), shelf("b", profiles=[less])])
    with pytest.raises(ProfileError, match=f"write a:{STANDARD.name} or b:{STANDARD.name}"):
        two.profile(STANDARD.name)
    assert two.profile(f"b:{STANDARD.name}") == ("b", less)
    same = Catalogue([shelf("a", profiles=[STANDARD]), shelf("b", profiles=[STANDARD])])
    assert same.profile(STANDARD.name)[0] == "a"


def test_resolving_tells_where_each_vib_is_and_what_is_missing(catalogue: Catalogue) -> None:
    wanted = resolved([*esxi(), oem_driver()], missing=["X_bootbank_gone_1.0"]).profile
    found = catalogue.resolve(wanted)
    assert found.missing == ("X_bootbank_gone_1.0",)
    assert found.depots[oem_driver().id] == "acme"
    assert found.depots[base().id] == "vmware"
    assert catalogue.resolve(wanted, ["vmware"]).missing == (oem_driver().id, "X_bootbank_gone_1.0")
    with pytest.raises(ProfileError, match="there is no depot 'moon'"):
        catalogue.resolve(wanted, ["vmware", "moon"])


def test_an_order_of_depots_is_a_choice_and_a_pin_is_a_better_one() -> None:
    other = agent(sum="1" * 64)
    two = Catalogue([shelf("one", agent()), shelf("two", other)])
    profile = resolved([agent()]).profile
    with pytest.raises(ProfileError, match="with different contents"):
        two.resolve(profile)
    assert two.resolve(profile, ["two", "one"]).packages[other.id] == other
    pinned = two.resolve(profile, ["one", "two"], {other.id: "two"})
    assert (pinned.packages[other.id], pinned.depots[other.id]) == (other, "two")


def test_resolving_derives_the_hardware_rules() -> None:
    vib = package("a", hardware_platforms=(HardwarePlatform("HP"),))
    assert Catalogue([shelf("d", vib)]).resolve(resolved([vib]).profile).profile.rules == (
        HardwareRule("HP"),
    )


def test_providers_of_that_name_come_before_newer_ones(catalogue: Catalogue) -> None:
    more = Catalogue(
        [
            shelf("one", package("libx", "1.0-1"), package("libx", "1.2-1")),
            shelf("two", package("other", "9.0-1", provides=["libx = 1.3"]), package("libx", "1.2-1")),
        ]
    )
    found = more.providers(SoftwareConstraint.parse("libx >= 1.0"))
    assert [(one.package.name, one.package.version, one.depot) for one in found] == [
        ("libx", "1.2-1", "one"),
        ("libx", "1.0-1", "one"),
        ("other", "9.0-1", "two"),
    ]
