"""Image profiles as files of the site: read, created and changed, with the comments of whoever wrote them.

``image-profiles/*.yaml``, described in docs/reference/image-profiles.md. A file is written only if it is still as
it was read, and only if it says afterwards what it should. Knows neither depots nor what makes a profile valid.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midwife.images.errors import ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.site.checks.imageprofiles import check_image_profiles
from midwife.site.draft import Draft, Found, read_draft
from midwife.site.files import FileRefused, inside, locked, unchanged, write
from midwife.site.imageprofile import ImageProfileFile, VibEntry, vib_name
from midwife.site.problems import Problem
from midwife.site.validate import validate
from midwife.site.yaml import MAX_BYTES, Place, parse_yaml
from midwife.site.yamltext import NotEditable, YamlText
from midwife.site.yamlwrite import scalar

__all__ = ["FOLDER", "ProfileFile", "create", "delete", "read", "replace_text", "save"]

FOLDER = "image-profiles"
_ORDER = (
    "name",
    "vendor",
    "author",
    "description",
    "acceptance-level",
    "guid",
    "created",
    "modified",
    "serial",
    "read-only",
    "signature-check",
    "depots",
    "vibs",
)
_FLAGS = ("true", "false")


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A file as it was read. ``save`` and ``delete`` refuse if it has changed since."""

    root: Path
    """The site directory."""
    file: str
    """``image-profiles/lab.yaml``"""
    raw: bytes
    entry: ImageProfileFile

    @property
    def profile(self) -> ImageProfile:
        """As an object; its VIBs sorted by id."""
        said = self.entry
        vibs = {vib.id: ProfileVib(vib.id, boot=vib.boot) for vib in said.vibs}
        return ImageProfile(
            name=said.name,
            vendor=said.vendor,
            author=said.author,
            description=said.description,
            guid=said.guid or "",
            acceptance_level=AcceptanceLevel.parse(said.acceptance_level),
            creation_time=said.created,
            modified_time=said.modified,
            read_only=said.read_only,
            serial=said.serial,
            vibs=tuple(vibs[vib_id] for vib_id in sorted(vibs)),
            signature_check=said.signature_check,
        )

    @property
    def depots(self) -> tuple[str, ...]:
        """Where its VIBs are looked up; () for everywhere."""
        return self.entry.depots

    @property
    def pins(self) -> dict[str, str]:
        """VIB id to depot, where the file says it."""
        return {vib.id: vib.depot for vib in self.entry.vibs if vib.depot}


def read(root: Path, file: str) -> ProfileFile:
    """One file of the site, ``image-profiles/…``. Raises ProfileError with everything that is wrong with it."""
    try:
        if not stat.S_ISREG((root / file).stat().st_mode):  # opening a FIFO would wait for ever
            raise ProfileError(f"{file} is not a regular file")
        with (root / file).open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)  # that it is too large, the parser says
    except OSError as error:
        raise ProfileError(f"{file}: cannot be read: {error.strerror}") from None
    return ProfileFile(root, file, raw, _parsed(raw, root, file))


def create(
    root: Path, profile: ImageProfile, depots: Sequence[str] = (), pins: Mapping[str, str] | None = None
) -> ProfileFile:
    """A new file, named after the profile. Raises ProfileError; name and vendor must be free."""
    entry = _entry(profile, depots, pins or {}, ())
    lines = []
    for key, value in _texts(entry).items():
        if value is not None:
            lines.append(f"{key}: {scalar(value, bare=_FLAGS if key in _BARE else (), column=0)}")
    if entry.depots:
        lines += ["depots:", *(f"  - {scalar(depot)}" for depot in entry.depots)]
    lines.append("vibs:")
    for vib in entry.vibs:
        said = [f"{key}: {value if key == 'boot' else scalar(value)}" for key, value in _said(vib).items()]
        lines += (
            [f"  - {scalar(vib.id)}"]
            if len(said) == 1
            else [f"  - {said[0]}", *(f"    {s}" for s in said[1:])]
        )
    raw = ("\n".join(lines) + "\n").encode()
    folder = root / FOLDER
    _inside(root, folder)
    try:
        folder.mkdir(exist_ok=True)
        with locked(folder):
            file = f"{FOLDER}/{_free_name(folder, profile)}"
            _prove(raw, root, file, entry)
            write(root / file, raw, new=True)
    except OSError as error:
        raise ProfileError(f"cannot write to {folder}: {error.strerror}") from None
    return ProfileFile(root, file, raw, entry)


def save(
    file: ProfileFile, profile: ImageProfile, depots: Sequence[str], pins: Mapping[str, str] | None = None
) -> ProfileFile:
    """Change the file so that it says this; whatever it says already stays as it is written, comments too.

    Raises ProfileError: somebody else has changed the file since it was read, or it cannot be changed.
    """
    entry = _entry(profile, depots, pins or {}, file.entry.ids)
    bom, text = _decoded(file.raw)
    try:
        changed = YamlText(text)
        _change(changed, file.entry, entry)
        raw = bom + changed.result().encode()
    except NotEditable as error:
        raise ProfileError(
            f"{file.file} is not changed: {error}; write it in plain lines, or change it yourself"
        ) from None
    return _saved(file, raw, entry)


def replace_text(file: ProfileFile, raw: bytes) -> ProfileFile:
    """The file with a text that a person has edited. Raises ProfileError as ``save`` and ``read`` do."""
    return _saved(file, raw, _parsed(raw, file.root, file.file))


def delete(file: ProfileFile) -> None:
    """Take the file out of the site. Raises ProfileError if it has changed since it was read."""
    path = file.root / file.file
    _inside(file.root, path.parent)
    try:
        with locked(path.parent):
            _unchanged(file)
            path.unlink()
    except OSError as error:
        raise ProfileError(f"{file.file} cannot be deleted: {error.strerror}") from None


def _saved(file: ProfileFile, raw: bytes, entry: ImageProfileFile) -> ProfileFile:
    path = _inside(file.root, file.root / file.file)
    try:
        with locked(path.parent):
            _unchanged(file)
            _prove(raw, file.root, file.file, entry)
            write(path, raw, new=False)
    except OSError as error:
        raise ProfileError(f"{file.file} cannot be written: {error.strerror}") from None
    return ProfileFile(file.root, file.file, raw, entry)


_BARE = ("read-only", "signature-check")


def _entry(
    profile: ImageProfile, depots: Sequence[str], pins: Mapping[str, str], order: Sequence[str]
) -> ImageProfileFile:
    """What the file is to say. The VIBs that it has already keep their order, a replaced one its place."""
    boots = {vib.id: vib.boot for vib in profile.vibs}
    try:
        return ImageProfileFile(
            name=profile.name,
            vendor=profile.vendor,
            author=profile.author,
            description=profile.description,
            acceptance_level=str(profile.acceptance_level),
            guid=profile.guid or None,
            created=profile.creation_time,
            modified=profile.modified_time,
            serial=profile.serial,
            read_only=profile.read_only,
            signature_check=profile.signature_check,
            depots=tuple(depots),
            vibs=tuple(
                VibEntry(id=vib_id, depot=pins.get(vib_id), boot=boots[vib_id])
                for vib_id in _ordered(order, list(boots))
            ),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ProfileError(
            f"image profile {profile.name!r} cannot be a file of the site: {where}: {what}"
        ) from None


def _ordered(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """``new`` in the order of ``old``; a VIB in another version takes the place of the one that went."""
    wanted = set(new)
    coming = {vib_name(vib_id)[0]: vib_id for vib_id in new if vib_id not in old}
    result: list[str] = []
    for vib_id in old:
        if vib_id in wanted:
            result.append(vib_id)
        elif heir := coming.pop(vib_name(vib_id)[0], None):
            result.append(heir)
    rest = sorted(wanted - set(result))
    return (
        sorted([*result, *rest])
        if list(old) == sorted(old) and result == sorted(result)
        else [*result, *rest]
    )


def _texts(entry: ImageProfileFile) -> dict[str, str | None]:
    """Key to text, None for what need not be written."""
    created, modified = (
        moment.astimezone(UTC).isoformat() if moment else None for moment in (entry.created, entry.modified)
    )
    return {
        "name": entry.name,
        "vendor": entry.vendor,
        "author": entry.author or None,
        "description": entry.description or None,
        "acceptance-level": entry.acceptance_level,
        "guid": entry.guid,
        "created": created,
        "modified": modified,
        "serial": str(entry.serial) if entry.serial else None,
        "read-only": str(entry.read_only).lower(),
        "signature-check": None if entry.signature_check else "false",
    }


def _said(vib: VibEntry) -> dict[str, str]:
    said = {"id": vib.id}
    if vib.depot:
        said["depot"] = vib.depot
    if not vib.boot:
        said["boot"] = "false"
    return said


def _change(text: YamlText, old: ImageProfileFile, new: ImageProfileFile) -> None:
    was = _texts(old)
    for key, value in _texts(new).items():
        before = _ORDER[: _ORDER.index(key)]
        if value is not None and value != was[key]:
            text.set(key, value, before, _FLAGS if key in _BARE else ())
        elif value is None and was[key] is not None:
            text.remove(key)
    kept = _pairs([{"depot": name} for name in old.depots], [{"depot": name} for name in new.depots])
    if old.depots != new.depots:
        entries = [{"depot": name} for name in new.depots]
        text.change_list("depots", entries, kept, {}, _ORDER[: _ORDER.index("depots")])
    if old.vibs != new.vibs:
        before_, after = [_said(vib) for vib in old.vibs], [_said(vib) for vib in new.vibs]
        kept = _pairs(before_, after)
        heirs = {
            vib_name(vib["id"])[0]: number for number, vib in enumerate(after) if number not in kept.values()
        }
        replaced = {
            index: heirs[name]
            for index, vib in enumerate(before_)
            if index not in kept and (name := vib_name(vib["id"])[0]) in heirs
        }
        text.change_list("vibs", after, kept, replaced, _ORDER[: _ORDER.index("vibs")])


def _pairs(old: Sequence[Mapping[str, str]], new: Sequence[Mapping[str, str]]) -> dict[int, int]:
    """Index to index of the entries that stay as they are, in ascending order of both."""
    places = {tuple(entry.items()): number for number, entry in enumerate(new)}
    found: dict[int, int] = {}
    last = -1
    for index, entry in enumerate(old):
        number = places.get(tuple(entry.items()), -1)
        if number > last:
            found[index] = last = number
    return found


def _parsed(raw: bytes, root: Path, file: str) -> ImageProfileFile:
    """Raises ProfileError with every problem of this file."""
    problems: list[Problem] = []
    document = parse_yaml(raw, file, problems)
    if document is not None and document.data is not None and not problems:
        data: Any = document.data
        if isinstance(data, dict):
            data = {"name": Path(file).stem, **data}
        place = Place(document)
        entry = validate(ImageProfileFile, data, place, problems)
        if entry is not None:
            alone = Draft(root, root, image_profiles=[Found(entry, place)])
            problems += [p for p in check_image_profiles(alone) if p.level == "error"]
            if not problems:
                return entry
    said = "\n".join(map(str, problems))
    raise ProfileError(said or f"{file}: the file is empty; it needs name and vendor at least")


def _prove(raw: bytes, root: Path, file: str, entry: ImageProfileFile) -> None:
    """The new text says what it should, and no other file has the profile's name."""
    if _parsed(raw, root, file) != entry:
        raise ProfileError(
            f"{file} is not changed: it is written in a way that midwife does not understand well enough; "
            "write one key or list entry a line, or change it yourself"
        )
    document = parse_yaml(raw, file, [])
    others = [found for found in read_draft(root).image_profiles if found.place.document.file != file]
    if document is not None:
        together = Draft(root, root, image_profiles=[*others, Found(entry, Place(document), whole=False)])
        for problem in check_image_profiles(together):
            if problem.level == "error" and problem.file == file:
                raise ProfileError(str(problem))


def _inside(root: Path, path: Path) -> Path:
    try:
        return inside(root, path)
    except FileRefused as error:
        raise ProfileError(str(error)) from None


def _unchanged(file: ProfileFile) -> None:
    try:
        unchanged(file.root, file.file, file.raw)
    except FileRefused as error:
        raise ProfileError(str(error)) from None


def _free_name(folder: Path, profile: ImageProfile) -> str:
    """A file name out of the profile's name."""

    def slug(text: str) -> str:
        return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+~")

    stem = slug(profile.name) or "profile"
    stems = [stem, f"{stem}-{slug(profile.vendor)}", *(f"{stem}-{number}" for number in range(2, 1000))]
    for name in stems:
        if not any(os.path.lexists(folder / f"{name}{suffix}") for suffix in (".yaml", ".yml")):
            return f"{name}.yaml"
    raise ProfileError(f"{folder} has a thousand files called {stem}; delete some")


def _decoded(raw: bytes) -> tuple[bytes, str]:
    """Byte order mark and text; the text was read before, so it is UTF-8."""
    bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    return bom, raw[len(bom) :].decode("utf-8")
