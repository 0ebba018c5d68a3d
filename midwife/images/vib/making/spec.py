"""What the builder of a VIB has to say about it: ``VibSpec``, out of options or of a file (``vib.yaml``).

The keys are those of the descriptor. Forms of values are checked here, with the place in the file; what is in
the folder, and whether a host takes the result, is ``midwife.images.vib.making.build``'s business.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import HardwarePlatform, ReferenceUrl
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.descriptor import parse_date
from midwife.site.problems import Problem, in_order
from midwife.site.validate import validate
from midwife.site.yaml import Document, Place, read_yaml

__all__ = ["VibSpec", "read_spec"]

_WORD = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.+-]*")
_LONGEST_WORD = 80
_LONGEST_SUMMARY = 300
_LONGEST_DESCRIPTION = 4000


def _word(text: str) -> str:
    if not _WORD.fullmatch(text) or len(text) > _LONGEST_WORD:
        raise ValueError(
            f"{text[:100]!r} cannot be part of a VIB's id; write letters, digits, _ . + - "
            f"(at most {_LONGEST_WORD})"
        )
    return text


def _version(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9A-Za-z_.+-]{1,80}", value):
        raise ValueError(f"{value[:100]!r} is not a version; write VERSION or VERSION-RELEASE, as in 1.0.0-1")
    return SoftwareVersion.parse(value)


def _line(text: str) -> str:
    if not text.isprintable() or len(text) > _LONGEST_SUMMARY:
        raise ValueError(f"one line of text is wanted, at most {_LONGEST_SUMMARY} characters")
    return text.strip()


def _lines(text: str) -> str:
    if not all(line.isprintable() for line in text.split("\n")) or len(text) > _LONGEST_DESCRIPTION:
        raise ValueError(f"plain text is wanted, at most {_LONGEST_DESCRIPTION} characters")
    return text.strip()


def _list(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _constraint(value: object) -> object:
    return SoftwareConstraint.parse(value) if isinstance(value, str) else value


def _provide(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = SoftwareConstraint.parse(value)
    if found.relation not in (None, "="):
        raise ValueError(f"{value!r}: something is provided in one version; write NAME, or NAME = VERSION")
    return SoftwareProvide(found.name, found.version_object)


def _tag(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("a tag is one line of text")
    return text.strip()


def _hardware(value: object) -> object:
    if not isinstance(value, str):
        return value
    vendor, _, model = (part.strip() for part in value.partition(":"))
    if not vendor or not value.isprintable():
        raise ValueError("write VENDOR, or VENDOR:MODEL, as SMBIOS has them")
    return HardwarePlatform(vendor, model)


def _urls(value: object) -> object:
    if isinstance(value, dict):
        return tuple(ReferenceUrl(_line(str(key)), _line(str(url))) for key, url in value.items())
    return value


def _level(value: object) -> object:
    return AcceptanceLevel.parse(value) if isinstance(value, str) else value


def _date(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_date(value, "")
    except FormatError:
        raise ValueError(f"{value[:60]!r} is not a date; write 2024-05-31T12:00:00Z") from None


_Constraints = Annotated[
    tuple[Annotated[SoftwareConstraint, BeforeValidator(_constraint)], ...], BeforeValidator(_list)
]


class VibSpec(BaseModel):
    """Everything of a VIB's descriptor that does not come from its files."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    name: Annotated[str, AfterValidator(_word)]
    version: Annotated[SoftwareVersion, BeforeValidator(_version)]
    vendor: Annotated[str, AfterValidator(_word)]
    summary: Annotated[str, AfterValidator(_line)] = ""
    """One line; by default the name."""
    description: Annotated[str, AfterValidator(_lines)] = ""
    """By default the summary."""
    release_date: Annotated[datetime, BeforeValidator(_date)] | None = None
    depends: _Constraints = ()
    conflicts: _Constraints = ()
    replaces: _Constraints = ()
    provides: Annotated[
        tuple[Annotated[SoftwareProvide, BeforeValidator(_provide)], ...], BeforeValidator(_list)
    ] = ()
    tags: Annotated[tuple[Annotated[str, AfterValidator(_tag)], ...], BeforeValidator(_list)] = ()
    urls: Annotated[tuple[ReferenceUrl, ...], BeforeValidator(_urls)] = ()
    """In a file: title: URL."""
    hwplatform: Annotated[
        tuple[Annotated[HardwarePlatform, BeforeValidator(_hardware)], ...], BeforeValidator(_list)
    ] = ()
    acceptance_level: Annotated[AcceptanceLevel, BeforeValidator(_level)] = AcceptanceLevel.COMMUNITY
    live_install_allowed: bool = False
    live_remove_allowed: bool = False
    maintenance_mode: bool = False
    cimom_restart: bool = False
    stateless_ready: bool = False
    payload_name: Annotated[str, Field(pattern=r"^[0-9A-Za-z_.-]{1,15}$")] = ""
    """By default made from the name: eight characters, so that it is itself on boot media."""
    payload_type: Literal["tgz", "vgz"] = "tgz"

    @property
    def payload(self) -> str:
        """The payload's name."""
        return self.payload_name or re.sub(r"[^0-9a-z]", "", self.name.lower())[:8]


def read_spec(path: Path | None, options: Mapping[str, Any] | None = None) -> VibSpec:
    """From a YAML file, from options (which win), or both; options by their keys in the file.

    Raises FormatError with every mistake, one a line, each with its place.
    """
    given = options or {}
    problems: list[Problem] = []
    document: Document | None = Document("options", {})
    if path is not None:
        document = read_yaml(path, str(path), problems)
    if document is not None and not problems:
        written = {} if document.data is None else document.data
        data = {**written, **given} if isinstance(written, dict) else written
        spec = validate(VibSpec, data, Place(document), problems)
        if spec is not None:
            return spec
    told = in_order(_placed(problem, given, path) for problem in problems)
    raise FormatError("\n".join(str(problem) for problem in told))


def _placed(problem: Problem, options: Mapping[str, Any], path: Path | None) -> Problem:
    """An option's mistake is not in the file."""
    key = re.match("[a-z-]*", problem.what)
    if path is not None and not (key and key[0] in options):
        return problem
    return Problem("options", 0, 0, problem.what, problem.hint)
