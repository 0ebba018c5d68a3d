"""``vmware.xml``: the old summary of a metadata zip. ESXi's own tools ignore it, older managers ask for it.

Written, never read. Source: those of VIB Author and of VMware's component builder.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from lxml import etree

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.formats.bulletin import add_bulletin_fields
from midwife.images.depot.formats.xmlform import Element, add, add_platform, serialise, told_date
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import SoftwarePackage, SoftwarePlatform

__all__ = ["VibPlace", "write_vmware_xml"]

VibPlace = tuple[SoftwarePackage, str | None, int | None, str | None]
"""A VIB, its relative path, bytes and sha-256."""


def write_vmware_xml(
    bulletins: Iterable[Bulletin],
    vibs: Mapping[str, VibPlace],
    platforms: Iterable[SoftwarePlatform],
    timestamp: datetime,
) -> bytes:
    """Of the bulletins, each with those of its VIBs that are in ``vibs``. Raises FormatError.

    ``platforms`` are for VIBs that say none. Not the current time: the same input gives the same bytes.
    """
    default = tuple(platforms)
    root = etree.Element("metadataResponse")
    add(root, "version", "3.0")
    add(root, "timestamp", told_date(timestamp))
    for bulletin in bulletins:
        entry = add(root, "bulletin")
        add_bulletin_fields(entry, bulletin)
        listed = add(entry, "vibList")
        for vib_id in bulletin.vibs:
            if vib_id in vibs:
                _add_vib(listed, vibs[vib_id], default)
    return serialise(root, pretty=True)


def _add_vib(listed: Element, place: VibPlace, default: tuple[SoftwarePlatform, ...]) -> None:
    package, relative_path, size, checksum = place
    vib = add(listed, "vib")
    add(vib, "vibVersion", "1.4.5")
    add(vib, "vibID", package.id)
    add(vib, "name", package.name)
    add(vib, "version", package.version)
    add(vib, "vendor", package.vendor)
    add(vib, "vibType", package.type)
    add(vib, "summary", package.summary)
    needs = add(vib, "systemReqs")
    add(needs, "maintenanceMode", _told(package.maintenance_mode))
    for platform in package.software_platforms or default:
        add_platform(needs, "swPlatform", platform)
    related = add(vib, "relationships")
    _add_constraints(related, "depends", package.depends)
    _add_constraints(related, "conflicts", package.conflicts)
    _add_constraints(related, "replaces", package.replaces)
    provides = add(related, "provides")
    for provide in package.provides:
        add(
            provides,
            "provide",
            name=provide.name,
            **({"version": provide.version} if provide.version else {}),
        )
    _add_constraints(related, "compatibleWith", package.compatible_with)
    after = add(vib, "postInstall")
    # As in the real ones: a VIB that cannot be both installed and removed live needs a reboot.
    add(after, "rebootRequired", _told(not (package.live_install_ok and package.live_remove_ok)))
    add(after, "hostdRestart", "false")
    if package.tags:
        tags = add(vib, "softwareTags")
        for tag in package.tags:
            add(tags, "tag", tag)
    file = add(vib, "vibFile")
    add(file, "sourceUrl")
    add(file, "relativePath", relative_path)
    add(file, "packedSize", None if size is None else str(size))
    sum_ = add(file, "checksum")
    add(sum_, "checksumType", "sha-256")
    add(sum_, "checksum", checksum)


def _add_constraints(related: Element, tag: str, constraints: Iterable[SoftwareConstraint]) -> None:
    listed = add(related, tag)
    for one in constraints:
        relation = {"relation": one.relation, "version": one.version} if one.relation and one.version else {}
        add(listed, "constraint", name=one.name, **relation)


def _told(value: bool) -> str:
    return "true" if value else "false"
