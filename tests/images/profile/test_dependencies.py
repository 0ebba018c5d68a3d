"""Adding with dependencies: what is chosen, what is refused, and what the error tells."""

import pytest
from hypothesis import given

from midwife.images.errors import ProfileError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.compose import Change, add, new
from midwife.images.profile.validate import validate
from tests.images.profile.miniature import (
    COMMUNITY,
    GUID,
    LATER,
    NOW,
    agent,
    base,
    esxi,
    package,
    resolved,
    shelf,
    update,
)
from tests.images.profile.test_relations import packages


def added(members: list[SoftwarePackage], wanted: SoftwarePackage, *depot: SoftwarePackage) -> Change:
    return add(resolved(members), [wanted], Catalogue([shelf("d", *depot)]), now=NOW, with_dependencies=True)


def refusal(members: list[SoftwarePackage], wanted: SoftwarePackage, *depot: SoftwarePackage) -> str:
    with pytest.raises(ProfileError) as error:
        added(members, wanted, *depot)
    return str(error.value)


def test_dependencies_of_dependencies_with_the_reason() -> None:
    tool = package("tool", depends=["service >= 1.0"])
    service = package("service", "1.2-1", depends=["libx"])
    done = added(esxi(), tool, service, package("libx"), package("unrelated"))
    assert done.added == {
        tool.id: "asked for",
        service.id: f"{tool.id} needs service >= 1.0",
        package("libx").id: f"{service.id} needs libx",
    }
    assert done.resolved.depots[service.id] == "d"
    assert validate(done.resolved) == ()


def test_a_whole_esxi_from_one_driver() -> None:
    driver = package("driver", depends=["vmkapi_2_9_0_0"])
    done = new(
        "lab",
        "Lab",
        [driver],
        now=NOW,
        guid=GUID,
        catalogue=Catalogue([shelf("vmware", *esxi(), base("8.0.1-1"))]),
        with_dependencies=True,
    )
    assert set(done.added) == {driver.id, base().id, update().id}
    assert validate(done.resolved) == ()


def test_its_own_name_first_then_the_newest() -> None:
    tool = package("tool", depends=["libx >= 1.0"])
    depot = [
        package("libx", "1.1-1"),
        package("libx", "1.4-1"),
        package("libx", "0.9-1"),
        package("bundle-of-libs", "9.0", provides=["libx = 9.0"]),
    ]
    assert list(added([], tool, *depot).added) == [package("libx", "1.4-1").id, tool.id]
    assert package("bundle-of-libs", "9.0").id in added([], tool, depot[2], depot[3]).added


def test_never_what_conflicts_whoever_says_so() -> None:
    tool = package("tool", depends=["libx"])
    hostile = package("libx", "2.0", conflicts=["lab-agent"])
    hated = package("libx", "3.0")
    fine = package("libx", "1.0")
    members = [agent(), package("hater", conflicts=["libx >= 3.0"])]
    assert fine.id in added(members, tool, hostile, hated, fine).added
    assert refusal(members, tool, hostile, hated) == (
        "dependencies that the depots can't satisfy: VMW_bootbank_tool_1.0-1 needs libx"
        " (VMW_bootbank_libx_3.0 conflicts with VMW_bootbank_hater_1.0-1;"
        " VMW_bootbank_libx_2.0 conflicts with Lab_bootbank_lab-agent_1.0.0-1)"
    )


def test_never_below_the_profiles_level() -> None:
    tool = package("tool", depends=["libx"])
    assert refusal([], tool, package("libx", level=COMMUNITY)) == (
        "dependencies that the depots can't satisfy: VMW_bootbank_tool_1.0-1 needs libx"
        " (VMW_bootbank_libx_1.0-1 is community, below the profile's partner)"
    )


def test_a_member_is_upgraded_but_never_downgraded() -> None:
    members = [package("libx", "1.0")]
    newer = added(members, package("tool", depends=["libx >= 2.0"]), package("libx", "2.0"))
    assert newer.replaced == {package("libx", "1.0").id: package("libx", "2.0").id}
    assert refusal(members, package("tool", depends=["libx << 1.0"]), package("libx", "0.5")).endswith(
        "needs libx << 1.0 (VMW_bootbank_libx_1.0 replaces VMW_bootbank_libx_0.5)"
    )


def test_an_upgrade_that_breaks_nobody_is_preferred() -> None:
    members = [package("libx", "1.0"), package("old-friend", depends=["libx << 3.0"])]
    depot = [package("libx", "2.0"), package("libx", "3.0")]
    done = added(members, package("tool", depends=["libx >= 2.0"]), *depot)
    assert package("libx", "2.0").id in done.added


def test_everything_that_is_unmet_is_told_and_nothing_is_changed() -> None:
    members = esxi()
    message = refusal(
        members, package("tool", depends=["a >= 1", "b", "libx"]), package("libx", depends=["c"])
    )
    assert message == (
        "dependencies that the depots can't satisfy: VMW_bootbank_libx_1.0-1 needs c (no depot has it);"
        " VMW_bootbank_tool_1.0-1 needs a >= 1 (no depot has it);"
        " VMW_bootbank_tool_1.0-1 needs b (no depot has it)"
    )


def test_two_that_pull_in_opposite_directions_end() -> None:
    high = package("high", depends=["libx >= 2.0"])
    low = package("low", depends=["libx << 2.0"])
    message = refusal([low, package("libx", "1.0")], high, package("libx", "1.0"), package("libx", "2.0"))
    assert "VMW_bootbank_low_1.0-1 needs libx << 2.0" in message
    assert "replaces" in message


def test_without_a_depot_there_is_nothing_to_add_from() -> None:
    with pytest.raises(ProfileError, match="from a depot only"):
        add(resolved([]), [agent()], now=NOW, with_dependencies=True)


def test_open_needs_of_old_members_are_settled_too() -> None:
    """The command that a missing-dependency finding suggests works for VIBs that are there already."""
    tool = package("tool", depends=["libx"])
    done = added([tool], tool, package("libx"))
    assert done.added == {package("libx").id: f"{tool.id} needs libx"}


@given(packages, packages)
def test_success_means_that_nothing_is_missing(
    members: list[SoftwarePackage], depot: list[SoftwarePackage]
) -> None:
    start = resolved(members, level=COMMUNITY)
    before = {finding for finding in validate(start) if finding.kind in ("conflict", "obsolete")}
    catalogue = Catalogue([shelf("d", *depot)])
    wanted = [package("stranger", depends=["a", "b >= 1"])]
    try:
        done = add(start, wanted, catalogue, now=LATER, with_dependencies=True)
    except ProfileError:
        return
    after = validate(done.resolved)
    assert not [finding for finding in after if finding.kind == "missing-dependency"]
    new_conflicts = {one for one in after if one.kind in ("conflict", "obsolete")} - before
    assert not [one for one in new_conflicts if one.vib in done.added]
