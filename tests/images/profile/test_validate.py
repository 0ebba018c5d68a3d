"""Every finding: its reason, and the remedy that mends it."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import HardwarePlatform, SoftwarePackage
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.resolved import Finding, ResolvedProfile
from midwife.images.profile.validate import KINDS, validate
from tests.images.profile.miniature import (
    CERTIFIED,
    COMMUNITY,
    agent,
    base,
    esxi,
    inbox_driver,
    oem_driver,
    overlay,
    package,
    resolved,
    shelf,
    update,
)
from tests.images.profile.test_relations import packages


@dataclass(frozen=True)
class Proof:
    level: AcceptanceLevel
    reason: str


def findings(members: list[SoftwarePackage], *depot: SoftwarePackage, **how: object) -> list[Finding]:
    profile = resolved(members, **how)  # type: ignore[arg-type]
    return list(validate(profile, Catalogue([shelf("vmware", *depot)])))


def only(members: list[SoftwarePackage], *depot: SoftwarePackage, **how: object) -> Finding:
    found = findings(members, *depot, **how)
    assert len(found) == 1, found
    return found[0]


def test_the_miniature_is_valid() -> None:
    assert findings(esxi()) == []


def test_an_empty_profile_has_no_base_and_no_kernel() -> None:
    found = findings([], base())
    assert [one.kind for one in found] == ["no-base-vib", "no-boot-kernel"]
    assert found[0].remedy.startswith(
        "Depot vmware has VMware_bootbank_esx-base_8.0.3-0.35.24280767:"
        " midwife image add lab VMware_bootbank_esx-base_8.0.3-0.35.24280767 --depot vmware"
    )


def test_a_missing_vib_and_another_version_of_it() -> None:
    ghost = "VMW_bootbank_i40en_0.9-1"
    found = only(esxi(), inbox_driver(), missing=[ghost])
    assert (found.kind, found.vib, found.reason) == (
        "missing-vib",
        ghost,
        f"{ghost} is in none of the depots.",
    )
    assert found.remedy == (
        f"Add the depot that has it (midwife depot add), or take it out: midwife image remove lab {ghost}."
        f" Depot vmware has {inbox_driver().id}: midwife image add lab {inbox_driver().id} --depot vmware."
    )


def test_a_missing_dependency_names_who_has_it_newest_first() -> None:
    tool = package("tool", depends=["libx >= 1.1"])
    depot = [package("libx", version) for version in ("1.0", "1.2", "1.1")]
    found = only([*esxi(), tool], *depot)
    assert (found.kind, found.vib) == ("missing-dependency", tool.id)
    assert found.reason == f"{tool.id} needs libx >= 1.1, which no VIB of the profile provides."
    assert found.remedy == (
        "Depot vmware has VMW_bootbank_libx_1.2: midwife image add lab VMW_bootbank_libx_1.2 --depot vmware"
        " (--with-dependencies adds what that needs, too). Also: VMW_bootbank_libx_1.1 (depot vmware)."
    )


def test_a_dependency_that_no_depot_has() -> None:
    tool = package("tool", depends=["libx >= 7"])
    assert only([*esxi(), tool], package("libx")).remedy == (
        "No depot has it. There is libx 1.0-1 (depot vmware). Add a depot that has it (midwife depot add),"
        f" or remove what needs it: midwife image remove lab {tool.id}."
    )
    (without_depots,) = validate(resolved([*esxi(), tool]))
    assert without_depots.remedy == "Add a VIB that provides libx >= 7."


def test_a_conflict_says_which_to_remove() -> None:
    enemy = package("enemy", conflicts=["nvmxnet3 >= 1.0"], level=AcceptanceLevel.PARTNER)
    found = only([*esxi(), enemy])
    assert (found.kind, found.vib) == ("conflict", enemy.id)
    assert (
        found.reason == f"{enemy.id} conflicts with VMW_bootbank_nvmxnet3_1.0-1 (it says: nvmxnet3 >= 1.0)."
    )
    assert found.remedy == f"Remove all but one of them, for example: midwife image remove lab {enemy.id}."


def test_a_conflict_with_what_is_needed_spares_it() -> None:
    picky = package("picky", conflicts=["esx-update"])
    assert only([*esxi(), picky]).remedy.endswith(f"remove lab {picky.id}.")
    needed = package("user", depends=["picky"])
    assert only([*esxi(), picky, needed]).remedy == (
        f"Remove all but one of them; others of the profile need each of them: {picky.id}, {update().id}."
    )


def test_a_conflict_that_both_declare_is_told_once() -> None:
    a, b = package("a", conflicts=["b"]), package("b", conflicts=["a"])
    assert only([*esxi(), a, b]).vib == a.id


def test_two_versions_of_one_vib_are_an_obsolete_one_and_shared_files() -> None:
    newer = inbox_driver("2.0-1vmw.803")
    shared, obsolete = findings([*esxi(), newer])
    assert (shared.kind, obsolete.kind) == ("file-conflict", "obsolete")
    assert obsolete.vib == inbox_driver().id
    assert obsolete.reason == (
        f"The profile has i40en in two versions: {newer.id} replaces {inbox_driver().id}."
    )
    for finding in (shared, obsolete):
        assert f"midwife image remove lab {inbox_driver().id}." in finding.remedy


def test_an_oem_driver_and_what_it_replaces() -> None:
    found = only([*esxi(), oem_driver()])
    assert (found.kind, found.vib) == ("obsolete", inbox_driver().id)
    assert found.reason == f"{oem_driver().id} replaces {inbox_driver().id} (it says: i40en)."


def test_shared_files_are_one_finding_with_the_first_paths() -> None:
    paths = [f"usr/lib/vmware/x{number}" for number in range(5)]
    found = only([*esxi(), package("a", files=paths), package("b", files=["/" + path for path in paths])])
    assert found.reason == (
        "VMW_bootbank_a_1.0-1 and VMW_bootbank_b_1.0-1 are VIBs that bring the same files:"
        " usr/lib/vmware/x0, usr/lib/vmware/x1, usr/lib/vmware/x2 and 2 more. Both can't be in one image."
    )
    again = only([*esxi(), package("gc2", files=["bin/ls"], overlay=True)])
    assert "are overlay VIBs that bring the same files: bin/ls" in again.reason
    assert overlay().id in again.reason


def test_a_vib_below_the_profiles_level() -> None:
    found = only([*esxi(), agent()])
    assert found.reason == (
        f"{agent().id} is CommunitySupported; the profile asks for PartnerSupported at least."
    )
    assert found.remedy == (
        "Lower the profile's level: midwife image edit lab --acceptance-level community;"
        f" or remove the VIB: midwife image remove lab {agent().id}."
    )
    assert findings([*esxi(), agent()], level=COMMUNITY) == []


def test_a_community_vib_with_files_where_it_may_have_none() -> None:
    """As ghettoVCB and hardware-watchdog have."""
    paths = ["opt/x", *(f"etc/ghettovcb/{number}" for number in range(5))]
    vib = package("ghettoVCB", level=COMMUNITY, files=paths)
    found = only([*esxi(), vib], level=COMMUNITY)
    assert (found.kind, found.vib) == ("file-path", vib.id)
    assert "etc/ghettovcb/0" in found.reason
    assert "etc/ghettovcb/4" not in found.reason
    assert "and 2 more" in found.reason


def test_a_level_that_no_signature_proves() -> None:
    proofs = {base().id: Proof(COMMUNITY, "the signature is not over this descriptor")}
    proofs |= {update().id: Proof(CERTIFIED, "")}
    (found,) = validate(resolved(esxi()), None, proofs)
    assert (found.kind, found.vib) == ("signature", base().id)
    assert found.reason == (
        f"{base().id} claims to be VMwareCertified, which is not proved:"
        " the signature is not over this descriptor."
    )
    assert "--no-signature-check" in found.remedy
    assert validate(resolved(esxi(), signature_check=False), None, proofs) == ()


def test_hardware_that_excludes_itself() -> None:
    hp = package("hp", hardware_platforms=(HardwarePlatform("HP"),))
    dell = package("dell", hardware_platforms=(HardwarePlatform("Dell Inc."),))
    found = only([*esxi(), hp, dell])
    assert (found.kind, found.vib) == ("hardware", "")
    assert f"{dell.id} and {hp.id} are for hardware that has nothing in common" in found.reason


def test_names_with_blanks_are_quoted_in_commands() -> None:
    found = only([*esxi(), agent()], name="Ann's lab")
    assert """midwife image edit 'Ann'"'"'s lab' --acceptance-level""" in found.remedy


def test_everything_at_once_in_esxis_order() -> None:
    found = findings(
        [agent(), package("x", depends=["y"]), package("x", "2.0"), inbox_driver()], missing=["gone"]
    )
    assert [one.order for one in found] == sorted(one.order for one in found)
    assert {one.kind for one in found} == {
        "acceptance",
        "file-conflict",
        "missing-dependency",
        "missing-vib",
        "no-base-vib",
        "no-boot-kernel",
        "obsolete",
    }


def test_every_kind_is_explained_in_the_reference() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/validation.md").read_text()
    for kind in KINDS:
        assert f"\n## {kind}\n" in page, kind


@given(packages, st.randoms(use_true_random=False))
def test_any_vibs_give_findings_and_their_order_does_not_matter(
    members: list[SoftwarePackage], dice: random.Random
) -> None:
    profile = resolved(members, missing=["a_b_c_d"])
    catalogue = Catalogue([shelf("d", *members)])
    shuffled = list(profile.packages.items())
    dice.shuffle(shuffled)
    again = ResolvedProfile(profile.profile, dict(shuffled), profile.depots, profile.missing)
    found = validate(profile, catalogue)
    assert validate(again, catalogue) == found
    assert all(one.kind in KINDS and one.reason.endswith(".") and one.remedy for one in found)


@pytest.mark.parametrize("count", [400])
def test_vibs_that_all_hate_each_other_are_bounded(count: int) -> None:
    crowd = [
        package(f"x{number}", provides=["crowd"], conflicts=["crowd"], files=["bin/x"])
        for number in range(count)
    ]
    found = findings([*esxi(), *crowd])
    assert len(found) <= count
    assert max(len(one.reason) for one in found) < 1000
