"""``descriptor.xml``: what a VIB says of itself, read into a ``SoftwarePackage`` and written again.

The same document with three elements more is what depots keep of each VIB. Reading is tolerant where real VIBs
are odd; it never looks at payloads, and the bytes that were signed are container.py's to keep.
Source: the descriptors of 115 real VIBs of ESXi 5.0 to 9.0.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar

from lxml import etree

from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import (
    Checksum,
    HardwarePlatform,
    Payload,
    ReferenceUrl,
    SoftwarePackage,
    SoftwarePlatform,
)
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.describe import DepotFields, write_descriptor
from midwife.images.vib.limits import id_problem, name_problem, odd_in
from midwife.images.xmlsafe import parse_xml

__all__ = ["DepotFields", "Parsed", "parse_date", "parse_descriptor", "parse_element", "write_descriptor"]

T = TypeVar("T")
_El = etree._Element

# Any one character between day and hour; the zone may be missing, then it is UTC.
_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:.([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?\s*(?:Z|z|([+-])([0-9]{2}):?([0-9]{2}))?)?",
    re.DOTALL,
)
_WHOLE = re.compile(r"[0-9]{1,15}")
_ORDER = re.compile(r"[+-]?[0-9]{1,9}")
_LEADING = re.compile(r"[/\s]+")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_OWN = frozenset({"name", "type", "size", "boot-order", "vfat-name"})
_RELATIONS = ("depends", "conflicts", "replaces", "compatibleWith")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A descriptor that was read; the last four only where a depot or a host keeps it."""

    package: SoftwarePackage
    warnings: tuple[str, ...] = ()
    """What was tolerated, in sentences."""
    relative_path: str | None = None
    """Where the .vib is, relative to the metadata zip. Not checked: it may lead anywhere."""
    packed_size: int | None = None
    """Bytes of the .vib."""
    checksum: str | None = None
    """sha-256 of the .vib, lower case."""
    install_date: datetime | None = None


def parse_descriptor(data: bytes, what: str = "descriptor.xml") -> Parsed:
    """From the document's bytes. Raises FormatError, which names ``what`` and the element."""
    return parse_element(parse_xml(data, what), what)


def parse_element(root: _El, what: str = "descriptor.xml") -> Parsed:
    """From a ``vib`` element that is parsed already. Raises FormatError."""
    if root.tag != "vib":
        raise FormatError(f"{what}: the root element is {root.tag}, not vib: this describes no VIB")
    found: dict[str, _El] = {}
    for child in root:
        found.setdefault(str(child.tag), child)
    try:
        return _Reader(what, found).parsed()
    except FormatError:
        raise
    except ValueError as error:  # of the objects: versions, constraints, levels
        raise FormatError(f"{what}: {error}") from None


def parse_date(text: str, what: str) -> datetime:
    """A moment in UTC, as descriptors, profiles and bulletins write it. Raises FormatError.

    ``YYYY-MM-DD``, any one character, ``HH:MM:SS``, perhaps a fraction and a zone (none: UTC).
    """
    try:
        return _moment(text.strip())
    except (ValueError, OverflowError):
        raise FormatError(f"{what}: {text[:60]!r} is not a date; write 2024-05-31T12:00:00+00:00") from None


def _moment(text: str) -> datetime:
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups("0")
    ahead = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    zone = timezone(-ahead if sign == "-" else ahead)
    micro = int(fraction[:6].ljust(6, "0"))
    local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro, zone)
    return local.astimezone(UTC)


class _Reader:
    """One descriptor: its children by name."""

    def __init__(self, what: str, found: dict[str, _El]) -> None:
        self._what = what
        self._found = found
        self._warnings: list[str] = []

    def parsed(self) -> Parsed:
        package = self._package()
        if problem := id_problem(package):
            raise self._bad(problem)
        self._warnings += [f"{self._what}: {odd}" for odd in odd_in(package)]
        checksum = self._found.get("checksum")
        size = self._text("packed-size")
        installed = self._text("installdate")
        return Parsed(
            package,
            tuple(self._warnings),
            self._text("relative-path") or None,
            self._whole(size, "packed-size") if size else None,
            _text(checksum).lower() or None
            if checksum is not None and checksum.get("checksum-type", "sha-256") == "sha-256"
            else None,
            parse_date(installed, f"{self._what}: installdate") if installed else None,
        )

    def _package(self) -> SoftwarePackage:
        missing = [name for name in ("summary", "description", "payloads") if name not in self._found]
        if missing:
            self._warnings.append(f"{self._what}: has no {' and no '.join(missing)}")
        requires = self._found.get("system-requires")
        needs = () if requires is None else tuple(requires)
        install, remove = self._maintenance(next((e for e in needs if e.tag == "maintenance-mode"), None))
        depends, conflicts, replaces, compatible = (self._constraints(name) for name in _RELATIONS)
        level = self._text("acceptance-level")
        return SoftwarePackage(
            name=self._needed("name"),
            version_object=SoftwareVersion.parse(self._needed("version")),
            vendor=self._needed("vendor"),
            type=self._text("type") or "bootbank",
            summary=self._text("summary"),
            description=self._text("description"),
            release_date=self._released(),
            reference_urls=self._each("urls", "url", lambda e: ReferenceUrl(_get(e, "key"), _text(e))),
            depends=depends,
            conflicts=conflicts,
            replaces=replaces,
            compatible_with=compatible,
            provides=tuple(self._provide(e) for e in self._related("provides") if e.tag == "provide"),
            tags=tuple(filter(None, self._each("software-tags", "tag", _text))),
            maintenance_mode=install,
            maintenance_mode_remove=remove,
            hardware_platforms=tuple(self._hardware(e) for e in needs if e.tag == "hwplatform"),
            software_platforms=tuple(_platform(e) for e in needs if e.tag == "softwarePlatform"),
            files=tuple(path for e in self._found.get("file-list", ()) if (path := _path(_text(e)))),
            acceptance_level=AcceptanceLevel.parse(level) if level else AcceptanceLevel.COMMUNITY,
            live_install_ok=self._bool("live-install-allowed"),
            live_remove_ok=self._bool("live-remove-allowed"),
            cimom_restart=self._bool("cimom-restart"),
            stateless_ready=self._bool("stateless-ready"),
            overlay=self._bool("overlay"),
            payloads=self._payloads(),
        )

    def _text(self, name: str) -> str:
        element = self._found.get(name)
        return "" if element is None else _text(element)

    def _needed(self, name: str) -> str:
        if not (text := self._text(name)):
            raise self._bad(f"element {name} is missing or empty")
        return text

    def _each(self, parent: str, child: str, make: Callable[[_El], T]) -> tuple[T, ...]:
        elements: Iterable[_El] = self._found.get(parent, ())
        return tuple(make(element) for element in elements if element.tag == child)

    def _bool(self, name: str) -> bool:
        return self._truth(self._text(name), name, default=False)

    def _truth(self, text: str, where: str, *, default: bool) -> bool:
        if not text:
            return default
        value = _BOOLEANS.get(text.lower())
        if value is None:
            raise self._bad(f"{where} is {text[:40]!r}; write true or false")
        return value

    def _maintenance(self, element: _El | None) -> tuple[bool, bool]:
        """On install, on remove. A text is for both; attributes are for one each."""
        if element is None:
            return False, True
        text = _text(element)
        install = self._truth(text, "maintenance-mode", default=False)
        remove = self._truth(text, "maintenance-mode", default=True)
        return (
            self._truth(_get(element, "on-install"), "maintenance-mode on-install", default=install),
            self._truth(_get(element, "on-remove"), "maintenance-mode on-remove", default=remove),
        )

    def _related(self, name: str) -> Iterable[_El]:
        groups: Iterable[_El] = self._found.get("relationships", ())
        return (element for group in groups if group.tag == name for element in group)

    def _constraints(self, name: str) -> tuple[SoftwareConstraint, ...]:
        return tuple(self._constraint(e) for e in self._related(name) if e.tag == "constraint")

    def _constraint(self, element: _El) -> SoftwareConstraint:
        version = _get(element, "version")
        return SoftwareConstraint(
            self._attribute(element, "name"),
            _get(element, "relation") or None,
            SoftwareVersion.parse(version) if version else None,
        )

    def _provide(self, element: _El) -> SoftwareProvide:
        version = _get(element, "version")
        name = self._attribute(element, "name")
        return SoftwareProvide(name, SoftwareVersion.parse(version) if version else None)

    def _hardware(self, element: _El) -> HardwarePlatform:
        return HardwarePlatform(self._attribute(element, "vendor"), _get(element, "model"))

    def _payloads(self) -> tuple[Payload, ...]:
        payloads = self._each("payloads", "payload", self._payload)
        seen: set[str] = set()
        for payload in payloads:
            if payload.name in seen:
                raise self._bad(f"two payloads are called {payload.name}")
            seen.add(payload.name)
        return payloads

    def _payload(self, element: _El) -> Payload:
        name = self._attribute(element, "name")
        vfat_name = _get(element, "vfat-name") or None
        if problem := name_problem(name) or (vfat_name and name_problem(vfat_name)):
            raise self._bad(f"payload {name!r}: {problem}")
        where = f"payload {name}"
        size, order = _get(element, "size"), _get(element, "boot-order")
        if not size:
            self._warnings.append(f"{self._what}: {where} has no size")
        if order and not _ORDER.fullmatch(order):
            raise self._bad(f"{where}: boot-order {order[:40]!r} is not a number")
        return Payload(
            name,
            self._attribute(element, "type"),
            self._whole(size, f"{where}: size") if size else 0,
            tuple(self._checksum(e, where) for e in element if e.tag == "checksum"),
            int(order) if order else None,
            vfat_name,
            tuple((str(key), str(value)) for key, value in element.items() if key not in _OWN),
        )

    def _released(self) -> datetime | None:
        """None for what is no date: nothing hangs on it, so it keeps no VIB from being used."""
        text = self._text("release-date")
        try:
            return parse_date(text, f"{self._what}: release-date") if text else None
        except FormatError as error:
            self._warnings.append(str(error))
            return None

    def _checksum(self, element: _El, where: str) -> Checksum:
        kind = self._attribute(element, "checksum-type", f"{where}: ").lower()
        return Checksum(kind, _text(element).lower(), _get(element, "verify-process") or None)

    def _attribute(self, element: _El, name: str, where: str = "") -> str:
        if not (text := _get(element, name)):
            raise self._bad(f"{where}an element {element.tag} has no {name}")
        return text

    def _whole(self, text: str, where: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise self._bad(f"{where} {text[:40]!r} is not a number")
        return int(text)

    def _bad(self, problem: str) -> FormatError:
        return FormatError(f"{self._what}: {problem}")


def _platform(element: _El) -> SoftwarePlatform:
    product = _get(element, "productLineID") or "embeddedEsx"
    return SoftwarePlatform(product, _get(element, "version"), _get(element, "locale"))


def _path(text: str) -> str:
    return _LEADING.sub("", text, count=1) if text.startswith("/") else text


def _text(element: _El) -> str:
    return (element.text or "").strip()


def _get(element: _El, name: str) -> str:
    return str(element.get(name) or "").strip()
