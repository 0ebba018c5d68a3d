"""``image-profiles/*.yaml``: an image profile as a file of the site (docs/reference/image-profiles.md).

The form of each value is checked here. Whether the VIBs exist and fit together is the depot library's
business (``midwife image validate``); nothing here knows it.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["LEVELS", "ImageProfileFile", "VibEntry", "vib_name"]

LEVELS = {
    "community": "CommunitySupported",
    "partner": "PartnerSupported",
    "accepted": "VMwareAccepted",
    "certified": "VMwareCertified",
}
"""Acceptance levels as files say them, and as VMware's documentation does; both are read."""

_LEVEL = {name.lower(): level for level, documented in LEVELS.items() for name in (level, documented)}
_ID = re.compile(r"(.+?)_(bootbank|locker|meta)_(.+)_(.+)")
_DEPOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_LONGEST_ID = 400  # vendor, name and version of real VIBs have 70 characters together


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("it is empty, or has something in it that cannot be printed; write one line of text")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has something in it that cannot be printed; write one line of text")
    return text


def _level(value: object) -> str:
    level = _LEVEL.get(str(value).strip().lower())
    if level is None:
        raise ValueError(f"{str(value)[:80]!r} is not an acceptance level; write {', '.join(LEVELS)}")
    return level


def _moment(value: object) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{str(value)[:80]!r} is not a time; write 2026-11-26T04:00:00+00:00") from None


def _guid(text: str) -> str:
    digits = text.strip().strip("{}").replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        raise ValueError(f"{text[:80]!r} is not a GUID; it has 32 hexadecimal digits, or leave it out")
    return digits


def _id(text: str) -> str:
    if not text.isprintable() or len(text) > _LONGEST_ID or not _ID.fullmatch(text):
        raise ValueError(
            f"{text[:100]!r} is not a VIB id; it is VENDOR_bootbank_NAME_VERSION, as midwife vib list shows it"
        )
    return text


def _depot(text: str) -> str:
    if not _DEPOT.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is not the name of a depot; midwife depot list shows them")
    return text


def _entry(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def vib_name(vib_id: str) -> tuple[str, str]:
    """Name and version in a VIB id. The last underscore parts them: versions hardly ever have one."""
    match = _ID.fullmatch(vib_id)
    return (match[3], match[4]) if match else (vib_id, "")


DepotName = Annotated[str, AfterValidator(_depot)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class VibEntry(_Strict):
    """A VIB of a profile: its id alone, or with what else has to be said."""

    id: Annotated[str, AfterValidator(_id)]
    depot: DepotName | None = None
    """Only where the same id exists with different contents."""
    boot: bool = True
    """False: installed, but not loaded at boot."""


class ImageProfileFile(_Strict):
    """One file of ``image-profiles/``. Lengths are those of VMware's documentation of ImageProfile."""

    name: Annotated[str, Field(max_length=80), AfterValidator(_line)]
    vendor: Annotated[str, Field(max_length=40), AfterValidator(_line)]
    author: Annotated[str, Field(max_length=60), AfterValidator(_printable)] = ""
    description: str = ""
    acceptance_level: Annotated[str, BeforeValidator(_level), Field(alias="acceptance-level")] = "partner"
    """The least that each VIB must have, by its short name."""
    guid: Annotated[str, AfterValidator(_guid)] | None = None
    created: Annotated[datetime, BeforeValidator(_moment)] | None = None
    modified: Annotated[datetime, BeforeValidator(_moment)] | None = None
    serial: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Counts changes."""
    read_only: Annotated[bool, Field(alias="read-only")] = False
    signature_check: Annotated[bool, Field(alias="signature-check")] = True
    """False: somebody said ``--no-signature-check``."""
    depots: Annotated[tuple[DepotName, ...], BeforeValidator(_as_list)] = ()
    """Where VIBs are looked up, in this order; none: in every depot of the library."""
    vibs: Annotated[tuple[Annotated[VibEntry, BeforeValidator(_entry)], ...], BeforeValidator(_as_list)] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its VIBs, in the order of the file."""
        return tuple(vib.id for vib in self.vibs)
