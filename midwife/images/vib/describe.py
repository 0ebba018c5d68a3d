"""Writes ``descriptor.xml`` from a ``SoftwarePackage``: as it stands in a VIB, or as a depot keeps it.

The bytes are those that VMware's tools write (one line, no declaration, every element there, the same order),
which real VIBs in the tests confirm. Reading is descriptor.py's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from midwife.images.errors import FormatError
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import Payload, SoftwarePackage

__all__ = ["DepotFields", "write_date", "write_descriptor"]

_El = etree._Element


@dataclass(frozen=True, slots=True)
class DepotFields:
    """What a depot's metadata say of a VIB beside its descriptor."""

    relative_path: str
    """Of the .vib, relative to the metadata zip."""
    packed_size: int
    """Bytes of the .vib."""
    checksum: str
    """sha-256 of the .vib."""


def write_descriptor(package: SoftwarePackage, *, depot: DepotFields | None = None) -> bytes:
    """UTF-8, one line, no line feed at the end. Same package, same bytes.

    Raises FormatError for a text with characters that XML cannot hold.
    """
    try:
        return etree.tostring(_root(package, depot), encoding="utf-8", xml_declaration=False)
    except ValueError as error:
        raise FormatError(
            f"{package.id[:200]!r}: a text or name in it cannot be written as XML (a control character?): {error}"
        ) from None


def write_date(moment: datetime) -> str:
    """``2024-05-31T12:00:00+00:00``: always in UTC; a moment without a zone is taken for UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat()


def _root(package: SoftwarePackage, depot: DepotFields | None) -> _El:
    root = etree.Element("vib", {"version": "5.0"})
    _add(root, "type", package.type)
    _add(root, "name", package.name)
    _add(root, "version", package.version)
    _add(root, "vendor", package.vendor)
    _add(root, "summary", package.summary)
    _add(root, "description", package.description)
    if package.release_date is not None:
        _add(root, "release-date", write_date(package.release_date))
    urls = _add(root, "urls")
    for url in package.reference_urls:
        _add(urls, "url", url.url, key=url.title)
    _relationships(_add(root, "relationships"), package)
    tags = _add(root, "software-tags")
    for tag in package.tags:
        _add(tags, "tag", tag)
    if depot is not None:
        _add(root, "relative-path", depot.relative_path)
        _add(root, "packed-size", str(depot.packed_size))
        _add(root, "checksum", depot.checksum, **{"checksum-type": "sha-256"})
    _requirements(_add(root, "system-requires"), package)
    files = _add(root, "file-list")
    for path in package.files:
        _add(files, "file", path)
    _add(root, "acceptance-level", str(package.acceptance_level))
    _add(root, "live-install-allowed", _bool(package.live_install_ok))
    _add(root, "live-remove-allowed", _bool(package.live_remove_ok))
    _add(root, "cimom-restart", _bool(package.cimom_restart))
    _add(root, "stateless-ready", _bool(package.stateless_ready))
    _add(root, "overlay", _bool(package.overlay))
    payloads = _add(root, "payloads")
    for payload in package.payloads:
        _payload(payloads, payload)
    return root


def _relationships(parent: _El, package: SoftwarePackage) -> None:
    _constraints(parent, "depends", package.depends)
    _constraints(parent, "conflicts", package.conflicts)
    _constraints(parent, "replaces", package.replaces)
    provides = _add(parent, "provides")
    for provide in package.provides:
        version = {} if provide.version is None else {"version": provide.version}
        _add(provides, "provide", name=provide.name, **version)
    _constraints(parent, "compatibleWith", package.compatible_with)


def _constraints(parent: _El, name: str, constraints: Iterable[SoftwareConstraint]) -> None:
    group = _add(parent, name)
    for one in constraints:
        wanted = {"relation": one.relation, "version": one.version}
        _add(
            group,
            "constraint",
            name=one.name,
            **{key: text for key, text in wanted.items() if text is not None},
        )


def _requirements(parent: _El, package: SoftwarePackage) -> None:
    install, remove = _bool(package.maintenance_mode), _bool(package.maintenance_mode_remove)
    if install == remove:  # the text alone is what every tool understands
        _add(parent, "maintenance-mode", install)
    else:
        _add(parent, "maintenance-mode", **{"on-install": install, "on-remove": remove})
    for hardware in package.hardware_platforms:
        _add(
            parent,
            "hwplatform",
            vendor=hardware.vendor,
            **({"model": hardware.model} if hardware.model else {}),
        )
    for platform in package.software_platforms:
        where = {"version": platform.version, "locale": platform.locale, "productLineID": platform.product}
        _add(parent, "softwarePlatform", **where)


def _payload(parent: _El, payload: Payload) -> None:
    attributes = {"name": payload.name, "type": payload.type, "size": str(payload.size)}
    if payload.boot_order is not None:
        attributes["boot-order"] = str(payload.boot_order)
    if payload.vfat_name is not None:
        attributes["vfat-name"] = payload.vfat_name
    attributes |= {key: value for key, value in payload.extra if key not in attributes}
    element = _add(parent, "payload", **attributes)
    for one in payload.checksums:
        process = {} if one.process is None else {"verify-process": one.process}
        _add(element, "checksum", one.value, **{"checksum-type": one.kind}, **process)


def _add(parent: _El, tag: str, text: str = "", /, **attributes: str) -> _El:
    element = etree.SubElement(parent, tag, attributes)
    element.text = text or None  # <urls/>, not <urls></urls>
    return element


def _bool(value: bool) -> str:
    return "true" if value else "false"
