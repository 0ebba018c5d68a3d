"""Where a VIB may put its files, by acceptance level: what ESXi calls the extensibility rules.

VMware's own levels (certified, accepted) may write anywhere, partners and communities into certain directories.
Looks at the descriptor only. Source: ESXi 6.7; what a host says is ``violates extensibility rule checks``, and
then it installs the VIB with ``-f`` alone.
"""

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import SoftwarePackage

__all__ = ["COMMUNITY_DIRECTORIES", "broken_path_rules"]

_MAPS = tuple(f"etc/vmware/{kind}.map.d/" for kind in ("driver", "fallback", "default", "ihv", "oem"))
_IDS = tuple(f"usr/share/hwdata/{kind}.pciids.d/" for kind in ("driver", "fallback", "default", "ihv", "oem"))

COMMUNITY_DIRECTORIES = (
    "etc/vmware/shutdown/shutdown.d/",
    "etc/vmware/pciid/",
    "etc/vmware/vm-support/",
    "etc/vmware/firewall/",
    "etc/vmware/service/",
    *_MAPS,
    "etc/cim/",
    "etc/config/",
    "etc/init.d/",
    "etc/shutdown.d/",
    "opt/",
    "usr/lib/cim/",
    "usr/lib/pycim/",
    "usr/lib/hostprofiles/plugins/",
    "usr/lib/hostprofiles/locale/",
    "usr/lib/vmware/",
    "usr/lib/vmware-debug/",
    "usr/libexec/jumpstart/plugins/",
    "usr/lib64/vmware/plugin/",
    "usr/lib64/vmware/",
    *_IDS,
    "var/lib/sfcb/registration/",
)
"""Every file of a community VIB is below one of them."""

_PARTNER_DIRECTORIES = (*COMMUNITY_DIRECTORIES, "etc/rc.local.d/")
_PARTNER_FILES = frozenset(
    {
        "etc/vmware/vmware.lic",
        "etc/vmware/support",
        "etc/vmware/oem.xml",
        "etc/vmware/backup.conf",
        "usr/lib/vmware/hostd/docroot/client/customLinks.xml",
    }
)


def broken_path_rules(package: SoftwarePackage) -> tuple[str, ...]:
    """What the package's file list breaks, a sentence for each file, in the list's order; () if nothing."""
    match package.acceptance_level:
        case AcceptanceLevel.COMMUNITY:
            directories, files = COMMUNITY_DIRECTORIES, frozenset[str]()
        case AcceptanceLevel.PARTNER:
            directories, files = _PARTNER_DIRECTORIES, _PARTNER_FILES
        case _:
            return ()
    level = str(package.acceptance_level)
    broken = []
    if package.overlay and package.acceptance_level is AcceptanceLevel.COMMUNITY:
        broken.append("a community VIB must not overlay files of other VIBs")
    for listed in package.files:
        path = listed.lstrip("/")
        if path in files:
            continue
        if any(part in ("", ".", "..") for part in path.removesuffix("/").split("/")):
            broken.append(f"{listed}: not a plain path")
        elif not path.startswith(directories):
            broken.append(f"{listed}: a {level} VIB must not put files there")
    return tuple(broken)
