"""Where VIBs may put their files, by level."""

from dataclasses import replace

import pytest

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.paths import COMMUNITY_DIRECTORIES, broken_path_rules

COMMUNITY, PARTNER = AcceptanceLevel.COMMUNITY, AcceptanceLevel.PARTNER


def vib(level: AcceptanceLevel, *files: str, overlay: bool = False) -> SoftwarePackage:
    return SoftwarePackage(
        "agent", SoftwareVersion("1"), "LAB", acceptance_level=level, files=files, overlay=overlay
    )


@pytest.mark.parametrize("directory", COMMUNITY_DIRECTORIES)
def test_where_communities_and_partners_may_write(directory: str) -> None:
    for level in (COMMUNITY, PARTNER):
        assert broken_path_rules(vib(level, f"{directory}file", f"/{directory}deep/er")) == ()


@pytest.mark.parametrize(
    "path",
    [
        "etc/rc.local.d/agent.sh",
        "etc/vmware/vmware.lic",
        "etc/vmware/support",
        "etc/vmware/oem.xml",
        "etc/vmware/backup.conf",
        "usr/lib/vmware/hostd/docroot/client/customLinks.xml",
    ],
)
def test_where_partners_may_write_too(path: str) -> None:
    assert broken_path_rules(vib(PARTNER, path)) == ()
    community = broken_path_rules(vib(COMMUNITY, path))
    if path.startswith("usr/lib/vmware/"):
        assert community == (), "it is below a directory of communities anyway"
    else:
        assert community == (f"{path}: a community VIB must not put files there",)


def test_ghetto_vcb_and_the_watchdog() -> None:
    """Two VIBs of the field that hosts take with -f only."""
    ghetto = vib(COMMUNITY, "etc/ghettovcb/ghettoVCB.conf", "opt/ghettovcb/bin/ghettoVCB.sh")
    assert broken_path_rules(ghetto) == (
        "etc/ghettovcb/ghettoVCB.conf: a community VIB must not put files there",
    )
    watchdog = vib(COMMUNITY, "bin/ipmitool_wd", "etc/rc.local.d/hardware_watchdog_keepalive")
    assert len(broken_path_rules(watchdog)) == 2
    assert broken_path_rules(replace(watchdog, acceptance_level=PARTNER)) == (
        "bin/ipmitool_wd: a partner VIB must not put files there",
    )


@pytest.mark.parametrize("path", ["opt/../bin/sh", "opt//x", "opt/./x", "etc/init.d/.."])
def test_no_way_around(path: str) -> None:
    assert broken_path_rules(vib(COMMUNITY, path)) == (f"{path}: not a plain path",)


@pytest.mark.parametrize("path", ["opt", "optional/x", "Opt/x", "etc/init.dx/y", "usr/lib/vmwarex"])
def test_names_that_look_alike(path: str) -> None:
    assert broken_path_rules(vib(COMMUNITY, path)) == (f"{path}: a community VIB must not put files there",)


def test_vmwares_own_levels_write_anywhere() -> None:
    for level in (AcceptanceLevel.ACCEPTED, AcceptanceLevel.CERTIFIED):
        assert broken_path_rules(vib(level, "bin/sh", overlay=True)) == ()


def test_overlay() -> None:
    assert broken_path_rules(vib(COMMUNITY, "opt/x", overlay=True)) == (
        "a community VIB must not overlay files of other VIBs",
    )
    assert broken_path_rules(vib(PARTNER, "opt/x", overlay=True)) == ()
