"""Profiles made and changed: what comes, what goes, and why."""

import pytest
from hypothesis import given

from midwife.images.errors import ProfileError
from midwife.images.objects.package import HardwarePlatform, SoftwarePackage
from midwife.images.objects.profile import HardwareRule
from midwife.images.profile.catalogue import Found
from midwife.images.profile.compose import add, change, clone, new, remove
from midwife.images.profile.resolved import ResolvedProfile
from tests.images.profile.miniature import (
    COMMUNITY,
    GUID,
    LATER,
    NOW,
    PARTNER,
    agent,
    base,
    esxi,
    inbox_driver,
    oem_driver,
    package,
    resolved,
    update,
)
from tests.images.profile.test_relations import packages


@pytest.fixture
def lab() -> ResolvedProfile:
    return resolved(esxi())


def test_new_from_nothing() -> None:
    made = new("lab", "Lab", [Found(base(), "vmware"), agent()], now=NOW, guid=GUID, author="Ann")
    profile = made.resolved.profile
    assert (profile.name, profile.vendor, profile.author, profile.guid) == ("lab", "Lab", "Ann", GUID)
    assert (profile.acceptance_level, profile.creation_time, profile.read_only) == (PARTNER, NOW, False)
    assert profile.vib_list == (agent().id, base().id)
    assert made.resolved.depots == {base().id: "vmware"}
    assert made.changed
    assert new("empty", "Lab", now=NOW, guid=GUID).changed


def test_a_clone_is_a_profile_of_its_own_and_may_be_changed() -> None:
    old = resolved(esxi(), read_only=True, serial=7)
    made = clone(old, "mine", now=LATER, guid="f" * 32).resolved
    assert made.profile.vib_list == old.profile.vib_list
    assert (made.profile.name, made.profile.vendor, made.profile.guid) == ("mine", "Lab", "f" * 32)
    assert (made.profile.read_only, made.profile.serial, made.profile.creation_time) == (False, 0, LATER)
    assert add(made, [agent()], now=LATER).added == {agent().id: "asked for"}
    assert clone(old, "theirs", "ACME", now=NOW, guid=GUID).resolved.profile.vendor == "ACME"


def test_attributes(lab: ResolvedProfile) -> None:
    done = change(lab, now=LATER, name="other", acceptance_level=COMMUNITY, description="for the cellar")
    assert done.set == ("name", "description", "acceptance_level")
    assert (done.resolved.profile.serial, done.resolved.profile.modified_time) == (1, LATER)
    assert done.resolved.profile.creation_time == NOW
    with pytest.raises(ProfileError, match="name has 81 characters; 80 at most"):
        change(lab, now=LATER, name="x" * 81)


def test_nothing_new_leaves_the_serial_alone(lab: ResolvedProfile) -> None:
    for done in (
        change(lab, now=LATER, name="lab", read_only=False),
        add(lab, [base()], now=LATER),
        remove(lab, [], now=LATER),
    ):
        assert not done.changed
        assert done.resolved == lab


def test_read_only_profiles_refuse_changes() -> None:
    fixed = resolved(esxi(), read_only=True)
    for attempt in (
        lambda: add(fixed, [agent()], now=NOW),
        lambda: remove(fixed, ["gc"], now=NOW),
        lambda: change(fixed, now=NOW, description="x"),
        lambda: change(fixed, now=NOW, description="x", read_only=False),
    ):
        with pytest.raises(ProfileError, match="'lab' is read-only: clone it"):
            attempt()
    open_again = change(fixed, now=NOW, read_only=False)
    assert not open_again.resolved.profile.read_only
    assert change(open_again.resolved, now=NOW, read_only=True).resolved.profile.read_only


def test_a_newer_version_takes_the_place_of_the_older(lab: ResolvedProfile) -> None:
    newer = inbox_driver("2.0-1vmw.803")
    done = add(lab, [Found(newer, "patches")], now=LATER)
    assert done.added == {newer.id: "asked for"}
    assert done.removed == {inbox_driver().id: f"replaced by the newer {newer.id}"}
    assert done.replaced == {inbox_driver().id: newer.id}
    assert newer.id in done.resolved.profile.vib_list
    assert inbox_driver().id not in done.resolved.profile.vib_list
    assert done.resolved.depots[newer.id] == "patches"
    assert (done.resolved.profile.serial, done.resolved.profile.modified_time) == (1, LATER)


def test_an_older_version_is_only_taken_on_purpose(lab: ResolvedProfile) -> None:
    older = inbox_driver("1.0-1vmw.803")
    with pytest.raises(ProfileError, match=r"has VMW_bootbank_i40en_1\.11-1vmw\.803, which is newer"):
        add(lab, [older], now=NOW)
    done = add(lab, [older], now=NOW, allow_downgrade=True)
    assert done.removed == {inbox_driver().id: f"replaced by the older {older.id}"}


def test_what_a_vib_makes_obsolete_goes_and_says_why(lab: ResolvedProfile) -> None:
    done = add(lab, [oem_driver()], now=NOW)
    assert done.removed == {inbox_driver().id: f"replaced by {oem_driver().id} (i40en)"}
    assert done.replaced == {}


def test_what_makes_the_added_vib_obsolete_goes_as_well() -> None:
    with_oem = add(resolved(esxi()), [oem_driver()], now=NOW).resolved
    back = add(with_oem, [inbox_driver()], now=NOW)
    assert back.removed == {oem_driver().id: f"it replaces {inbox_driver().id} (i40en)"}
    assert back.resolved.profile.vib_list == resolved(esxi()).profile.vib_list


def test_contradictions_in_one_call() -> None:
    empty = resolved([])
    with pytest.raises(ProfileError, match="add one of both only"):
        add(empty, [inbox_driver("1.0"), inbox_driver("2.0")], now=NOW)
    with pytest.raises(ProfileError, match="given twice, with different contents"):
        add(empty, [agent(), agent(sum="1" * 64)], now=NOW)
    assert add(empty, [agent(), agent()], now=NOW).added == {agent().id: "asked for"}


def test_the_same_id_with_other_contents_is_not_slipped_in() -> None:
    with pytest.raises(ProfileError, match=r"already, from depot vmware, with other contents \(payload p0\)"):
        add(resolved([agent()]), [agent(sum="1" * 64)], now=NOW)


def test_removing_by_name_and_by_id(lab: ResolvedProfile) -> None:
    done = remove(lab, ["gc", inbox_driver().id], now=LATER)
    assert list(done.removed) == [inbox_driver().id, "VMware_bootbank_gc_8.0.3-1"]
    assert not set(done.removed) & {*done.resolved.packages, *done.resolved.profile.vib_list}
    with pytest.raises(ProfileError, match="has no VIB 'i40ne'; nearest: i40en"):
        remove(lab, ["i40ne"], now=NOW)


def test_what_is_needed_stays(lab: ResolvedProfile) -> None:
    with pytest.raises(ProfileError) as error:
        remove(lab, ["esx-base"], now=NOW)
    assert str(error.value) == (
        "not removed, because it is needed: VMW_bootbank_i40en_1.11-1vmw.803 needs vmkapi_2_9_0_0;"
        " VMW_bootbank_nvmxnet3_1.0-1 needs vmkapi_2_9_0_0 (remove those too, or use --force)"
    )
    assert remove(lab, ["esx-base"], now=NOW, force=True).removed == {base().id: "asked for"}
    assert len(remove(lab, ["esx-base", "i40en", "nvmxnet3"], now=NOW).removed) == 3


def test_what_somebody_else_provides_may_go() -> None:
    second = package("other-update", provides=["esx-update = 9.0"])
    done = remove(resolved([*esxi(), second]), ["esx-update"], now=NOW)
    assert done.removed == {update().id: "asked for"}


def test_a_need_that_was_open_before_is_no_reason_to_refuse() -> None:
    broken = resolved([package("orphan", depends=["gone"]), agent()])
    assert remove(broken, ["lab-agent"], now=NOW).removed == {agent().id: "asked for"}


def test_a_vib_that_is_in_no_depot_can_be_removed() -> None:
    ghost = "X_bootbank_gone_1.0"
    done = remove(resolved([agent()], missing=[ghost]), [ghost], now=NOW)
    assert done.removed == {ghost: "asked for"}
    assert (done.resolved.missing, done.resolved.profile.vib_list) == ((), (agent().id,))


def test_hardware_rules_follow_the_vibs() -> None:
    blade = package("blade", hardware_platforms=(HardwarePlatform("ACME"),))
    done = add(resolved(esxi()), [blade], now=NOW)
    assert done.resolved.profile.rules == (HardwareRule("ACME"),)
    assert remove(done.resolved, ["blade"], now=NOW).resolved.profile.rules == ()


@given(packages)
def test_adding_and_removing_gives_the_same_list(members: list[SoftwarePackage]) -> None:
    start = resolved(members)
    stranger = package("stranger", vendor="Lab", files=[])
    there = add(start, [stranger], now=NOW)
    back = remove(there.resolved, ["stranger"], now=NOW)
    assert back.resolved.profile.vib_list == start.profile.vib_list
    assert back.resolved.packages == start.packages
    assert back.resolved.profile.serial == 2
