"""Shared files, hardware rules, and whether two VIBs of one id are the same."""

from dataclasses import replace

from midwife.images.objects.package import Checksum, HardwarePlatform, SoftwarePackage
from midwife.images.objects.profile import HardwareRule
from midwife.images.profile.filesets import normal_path, shared_files
from midwife.images.profile.hardware import CONFLICTING, hardware_rules
from midwife.images.profile.sameness import differences, same_content
from tests.images.profile.miniature import PARTNER, agent, esxi, package


def vibs_and_paths(*packages: SoftwarePackage) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(tuple(vib.split("_")[2] for vib in one.vibs), one.paths) for one in shared_files(packages)]


def test_one_overlay_may_hide_one_ordinary_file() -> None:
    assert vibs_and_paths(*esxi()) == []


def test_two_overlays_may_not() -> None:
    twice = package("gc2", files=["/bin/ls"], overlay=True)
    assert vibs_and_paths(*esxi(), twice) == [(("gc2", "gc"), ("bin/ls",))]


def test_leading_slashes_and_directories() -> None:
    assert normal_path("/etc/x") == normal_path("etc/x") == "etc/x"
    assert vibs_and_paths(package("a", files=["etc/", "/"]), package("b", files=["etc/", "/"])) == []
    assert vibs_and_paths(package("a", files=["/etc/x"]), package("b", files=["etc/x"])) == [
        (("a", "b"), ("etc/x",))
    ]


def test_a_path_that_one_vib_lists_twice_is_no_conflict() -> None:
    assert vibs_and_paths(package("a", files=["etc/x", "/etc/x"])) == []


def test_one_group_for_each_set_of_vibs() -> None:
    found = vibs_and_paths(
        package("a", files=["1", "2", "3"]), package("b", files=["1", "2", "3"]), package("c", files=["3"])
    )
    assert found == [(("a", "b"), ("1", "2")), (("a", "b", "c"), ("3",))]


def test_the_dpus_copy_of_a_file_is_no_conflict() -> None:
    host = package("esx-base", files=["bin/vmx"], platforms=["embeddedEsx"])
    dpu = package("esxio-base", files=["bin/vmx"], platforms=["esxio"])
    both = package("both", files=["bin/vmx"], platforms=["embeddedEsx", "esxio"])
    old = package("old", files=["bin/vmx"])
    assert vibs_and_paths(host, dpu) == []
    assert vibs_and_paths(host, dpu, both) == [(("both", "esx-base", "esxio-base"), ("bin/vmx",))]
    assert vibs_and_paths(host, old) == [(("esx-base", "old"), ("bin/vmx",))]


def on(name: str, *machines: str) -> SoftwarePackage:
    platforms = tuple(HardwarePlatform(*machine.split("/")) for machine in machines)
    return package(name, hardware_platforms=platforms)


def test_hardware_rules_are_what_all_vibs_allow() -> None:
    assert hardware_rules(esxi()) == ()
    assert hardware_rules([on("a", "HP", "Dell Inc."), package("b")]) == (
        HardwareRule("Dell Inc."),
        HardwareRule("HP"),
    )
    assert hardware_rules([on("a", "HP", "Dell"), on("b", "HP/DL380", "HP/DL360"), on("c", "HP/DL380")]) == (
        HardwareRule("HP", ("DL380",)),
    )
    assert hardware_rules([on("a", "HP/DL380", "Dell"), on("b", "HP/DL360", "Dell/R640")]) == (
        HardwareRule("Dell", ("R640",)),
    )


def test_a_vendor_without_a_model_is_all_its_models() -> None:
    assert hardware_rules([on("a", "HP", "HP/DL380")]) == (HardwareRule("HP"),)


def test_hardware_that_has_nothing_in_common() -> None:
    assert hardware_rules([on("a", "HP"), on("b", "Dell")]) == (CONFLICTING,)
    assert hardware_rules([on("a", "HP/DL380"), on("b", "HP/DL360"), on("c", "HP")]) == (CONFLICTING,)


def test_sameness_goes_by_what_decides() -> None:
    one = agent()
    assert same_content(one, agent(summary="told otherwise", description="and at length"))
    assert same_content(one, replace(one, files=("/opt/lab/agent",)))
    assert differences(one, agent(sum="1" * 64)) == ("payload p0",)
    assert differences(one, replace(one, files=("opt/lab/other",), overlay=True)) == ("overlay", "files")
    assert differences(one, replace(one, payloads=())) == ("payload p0",)
    assert differences(one, agent("1.0.1-1")) == ("id",)
    assert differences(replace(one, acceptance_level=PARTNER), one) == ("acceptance level",)


def test_a_database_with_fewer_sums_describes_the_same_vib() -> None:
    one = agent()
    payload = one.payloads[0]
    more = replace(payload, checksums=(*payload.checksums, Checksum("sha-1", "2" * 40, "gunzip")))
    assert same_content(one, replace(one, payloads=(more,)))
    assert same_content(replace(one, payloads=(more,)), one)
