"""How one profile differs from another."""

from hypothesis import given

from midwife.images.objects.package import HardwarePlatform, SoftwarePackage
from midwife.images.profile.compare import compare, without_dpu
from tests.images.profile.miniature import (
    COMMUNITY,
    agent,
    base,
    esxi,
    inbox_driver,
    oem_driver,
    package,
    resolved,
    tools,
)
from tests.images.profile.test_relations import packages


def test_equal_profiles() -> None:
    diff = compare(resolved(esxi()), resolved(esxi(), name="other"))
    assert diff.equal
    assert diff.packages_equal
    assert diff.documented() == {
        "Equal": True,
        "PackagesEqual": True,
        "RulesEqual": True,
        "OnlyInRef": [],
        "OnlyInComp": [],
        "UpgradeFromRef": [],
        "DowngradeFromRef": [],
        "RefAcceptanceLevel": "PartnerSupported",
        "CompAcceptanceLevel": "PartnerSupported",
        "DifferentContent": [],
    }


def test_upgrades_downgrades_and_strangers() -> None:
    old = [base("8.0.2-0.0.1"), inbox_driver("2.0-1"), tools(), package("gone")]
    new = [base("8.0.3-0.0.1"), inbox_driver("1.0-1"), tools(), oem_driver()]
    diff = compare(resolved(old), resolved(new))
    assert diff.upgrade_from_ref == (base("8.0.3-0.0.1").id,)
    assert diff.downgrade_from_ref == (inbox_driver("1.0-1").id,)
    assert diff.only_in_ref == (package("gone").id,)
    assert diff.only_in_comp == (oem_driver().id,)
    assert not diff.packages_equal


def test_an_upgrade_goes_by_name_whoever_the_vendor_is() -> None:
    """The OEM's newer i40en: ids differ in more than the version."""
    theirs = package("i40en", "2.5-1OEM", vendor="INT")
    diff = compare(resolved([inbox_driver()]), resolved([theirs]))
    assert (diff.upgrade_from_ref, diff.only_in_ref, diff.only_in_comp) == ((theirs.id,), (), ())


def test_equal_versions_of_two_vendors_are_strangers() -> None:
    ours, theirs = package("ne1000", vendor="VMW"), package("ne1000", vendor="ACME")
    diff = compare(resolved([ours]), resolved([theirs]))
    assert (diff.only_in_ref, diff.only_in_comp) == ((ours.id,), (theirs.id,))
    assert not diff.equal


def test_levels_and_rules() -> None:
    bound = package("bound", hardware_platforms=(HardwarePlatform("HP"),))
    diff = compare(resolved([bound]), resolved([package("bound")], level=COMMUNITY))
    assert diff.packages_equal
    assert not diff.equal
    assert not diff.rules_equal


def test_one_id_with_other_contents() -> None:
    diff = compare(resolved([agent()]), resolved([agent(sum="1" * 64)]))
    assert diff.different_content == (agent().id,)
    assert diff.packages_equal, "as PowerCLI says, which looks at ids only"


def test_vibs_that_are_in_no_depot_are_compared_by_id() -> None:
    ghost = "X_bootbank_gone_1.0"
    assert compare(resolved([], missing=[ghost]), resolved([], missing=[ghost])).packages_equal
    assert compare(resolved([], missing=[ghost]), resolved([])).only_in_ref == (ghost,)


def test_the_dpus_vibs_are_not_on_a_host() -> None:
    dpu = package("esxio-base", platforms=["esxio"])
    both = package("esxio-combiner", platforms=["embeddedEsx", "esxio"])
    left = without_dpu(resolved([base(), dpu, both]))
    assert left.profile.vib_list == tuple(sorted([base().id, both.id]))
    assert dpu.id not in left.packages
    whole = resolved(esxi())
    assert without_dpu(whole) is whole


@given(packages)
def test_a_profile_equals_itself(members: list[SoftwarePackage]) -> None:
    profile = resolved(members)
    diff = compare(profile, profile)
    assert diff.equal
    assert not diff.different_content


@given(packages, packages)
def test_swapped_sides_mirror_each_other(a: list[SoftwarePackage], b: list[SoftwarePackage]) -> None:
    forth, back = compare(resolved(a), resolved(b)), compare(resolved(b), resolved(a))
    assert (forth.only_in_ref, forth.only_in_comp) == (back.only_in_comp, back.only_in_ref)
    assert forth.packages_equal == back.packages_equal
    assert forth.different_content == back.different_content

    def names(ids: tuple[str, ...]) -> list[str]:
        return sorted(vib.split("_")[2] for vib in ids)

    assert names(forth.upgrade_from_ref) == names(back.downgrade_from_ref)
    assert names(forth.downgrade_from_ref) == names(back.upgrade_from_ref)


@given(packages, packages)
def test_every_vib_is_accounted_for(a: list[SoftwarePackage], b: list[SoftwarePackage]) -> None:
    ref, comp = resolved(a), resolved(b)
    diff = compare(ref, comp)
    changed = {*diff.upgrade_from_ref, *diff.downgrade_from_ref}
    assert {*diff.only_in_comp, *changed} == comp.packages.keys() - ref.packages.keys()
    assert len(diff.only_in_ref) + len(changed) == len(ref.packages.keys() - comp.packages.keys())
