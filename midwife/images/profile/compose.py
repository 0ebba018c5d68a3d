"""Image profiles made and changed: new, cloned, attributes set, VIBs added and removed.

Pure: each function returns a ``Change`` with a new profile; the caller gives the time and the GUID, validates the
result and stores it. Rules as in Image Builder: an added VIB replaces what it makes obsolete and what makes it
obsolete; a VIB that another needs is not removed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from midwife.images.errors import ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.profile.catalogue import Catalogue, Found, nearest
from midwife.images.profile.dependencies import Draft, add_dependencies
from midwife.images.profile.hardware import hardware_rules
from midwife.images.profile.relations import Relations, meet
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.profile.sameness import differences
from midwife.site.imageprofile import vib_name

__all__ = ["Change", "add", "change", "clone", "new", "refuse_read_only", "remove"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a profile. Nothing added, removed or ``set``: ``resolved`` is what it was."""

    resolved: ResolvedProfile
    added: Mapping[str, str] = field(default_factory=dict)
    """VIB id to the reason: asked for, or what needs it."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """VIB id to the reason, those in ``replaced`` included."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Old VIB id to new one, where another version of the same VIB took its place."""
    set: tuple[str, ...] = ()
    """Names of the attributes that changed, as in ImageProfile."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to store."""
        return bool(self.added or self.removed or self.set)


def new(
    name: str,
    vendor: str,
    vibs: Iterable[Found | SoftwarePackage] = (),
    *,
    now: datetime,
    guid: str,
    acceptance_level: AcceptanceLevel = AcceptanceLevel.PARTNER,
    author: str = "",
    description: str = "",
    signature_check: bool = True,
    catalogue: Catalogue | None = None,
    with_dependencies: bool = False,
) -> Change:
    """A profile of these VIBs, by the rules of ``add``. ``guid``: 32 hexadecimal digits. Raises ProfileError."""
    profile = ImageProfile(
        name=name,
        vendor=vendor,
        author=author,
        description=description,
        guid=guid,
        acceptance_level=acceptance_level,
        creation_time=now,
        modified_time=now,
        signature_check=signature_check,
    )
    empty = ResolvedProfile(profile, {})
    made = add(empty, vibs, catalogue, with_dependencies=with_dependencies, now=now)
    return replace(made, set=("name", "vendor"))


def clone(
    resolved: ResolvedProfile,
    name: str,
    vendor: str | None = None,
    *,
    now: datetime,
    guid: str,
    author: str | None = None,
    description: str | None = None,
    acceptance_level: AcceptanceLevel | None = None,
) -> Change:
    """A copy that can be changed, also of a read-only profile; what is None stays. Raises ProfileError."""
    old = resolved.profile
    profile = replace(
        old,
        name=name,
        vendor=old.vendor if vendor is None else vendor,
        author=old.author if author is None else author,
        description=old.description if description is None else description,
        acceptance_level=old.acceptance_level if acceptance_level is None else acceptance_level,
        guid=guid,
        creation_time=now,
        modified_time=now,
        read_only=False,
        serial=0,
    )
    return Change(replace(resolved, profile=profile), set=("name",))


def change(
    resolved: ResolvedProfile,
    *,
    now: datetime,
    name: str | None = None,
    vendor: str | None = None,
    author: str | None = None,
    description: str | None = None,
    acceptance_level: AcceptanceLevel | None = None,
    read_only: bool | None = None,
    signature_check: bool | None = None,
) -> Change:
    """Sets attributes; what is None stays. Raises ProfileError.

    A read-only profile refuses everything but ``read_only=False``, which must come alone: whoever takes the
    protection off does it on purpose.
    """
    wanted = {
        "name": name,
        "vendor": vendor,
        "author": author,
        "description": description,
        "acceptance_level": acceptance_level,
        "read_only": read_only,
        "signature_check": signature_check,
    }
    old = resolved.profile
    changed = {
        what: value for what, value in wanted.items() if value is not None and value != getattr(old, what)
    }
    if not changed:
        return Change(resolved)
    if set(changed) != {"read_only"}:
        refuse_read_only(old)
    # mypy can't see that each value has its attribute's type
    profile = replace(old, **changed, modified_time=now, serial=old.serial + 1)  # type: ignore[arg-type]
    return Change(replace(resolved, profile=profile), set=tuple(changed))


def add(
    resolved: ResolvedProfile,
    vibs: Iterable[Found | SoftwarePackage],
    catalogue: Catalogue | None = None,
    *,
    now: datetime,
    with_dependencies: bool = False,
    allow_downgrade: bool = False,
) -> Change:
    """Adds VIBs and takes out what they replace and what replaces them. Raises ProfileError.

    A newer version of the same VIB in the profile gives way only to ``allow_downgrade``. A VIB that is there
    already is passed over. ``with_dependencies`` (needs ``catalogue``) adds what is still needed by the rules
    of ``midwife.images.profile.dependencies``, also for VIBs that were there before; if something can't be
    met, nothing is changed and the error lists all of it.
    """
    refuse_read_only(resolved.profile)
    draft = Draft(resolved.packages, resolved.depots)
    wanted = _each_once(vibs)
    for one in wanted:
        present = resolved.packages.get(one.package.id)
        if present is None:
            _refuse_downgrade(resolved, one.package, allow=allow_downgrade)
        elif what := differences(present, one.package):
            raise ProfileError(
                f"{one.package.id} is in the profile already, from depot {resolved.depots.get(present.id, '?')},"
                f" with other contents ({', '.join(what[:3])}): remove it first"
            )
    for one in wanted:
        if one.package.id not in resolved.packages:
            draft.put(one, "asked for")
    if with_dependencies:
        if catalogue is None:
            raise ProfileError("dependencies can be added from a depot only, and none was given")
        add_dependencies(draft, catalogue, resolved.profile.acceptance_level)
    return _finished(resolved, draft, now)


def remove(resolved: ResolvedProfile, vibs: Iterable[str], *, now: datetime, force: bool = False) -> Change:
    """Takes VIBs out, by id or by name. Raises ProfileError.

    Refused while a VIB that stays needs one of them and nothing else provides it; ``force`` removes all the
    same. Ids that are in no depot can be removed as well.
    """
    refuse_read_only(resolved.profile)
    going: dict[str, str] = {}
    for text in vibs:
        going[_member(resolved, text)] = "asked for"
    staying = [package for vib, package in resolved.packages.items() if vib not in going]
    if not force and (broken := _newly_unmet(resolved, staying)):
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise ProfileError(
            f"not removed, because it is needed: {'; '.join(broken[:_SHOWN])}{more}"
            " (remove those too, or use --force)"
        )
    draft = Draft(resolved.packages, resolved.depots)
    for vib in going:
        draft.drop(vib, "asked for")
    missing = tuple(vib for vib in resolved.missing if vib not in going)
    return _finished(replace(resolved, missing=missing), draft, now, gone=going)


def _finished(
    resolved: ResolvedProfile, draft: Draft, now: datetime, gone: Mapping[str, str] | None = None
) -> Change:
    removed = {**draft.removed, **(gone or {})}
    if not draft.added and not removed:
        return Change(resolved)
    old = resolved.profile
    kept = {vib.id: vib for vib in old.vibs if vib.id not in removed}
    for vib in draft.added:
        kept[vib] = ProfileVib(vib)
    packages = dict(sorted(draft.packages.items()))
    profile = replace(
        old,
        vibs=tuple(kept[vib] for vib in sorted(kept)),
        rules=hardware_rules(packages.values()),
        modified_time=now,
        serial=old.serial + 1,
    )
    depots = {vib: draft.depots[vib] for vib in packages if vib in draft.depots}
    after = ResolvedProfile(profile, packages, depots, resolved.missing)
    return Change(
        after,
        dict(sorted(draft.added.items())),
        dict(sorted(removed.items())),
        dict(sorted(draft.replaced.items())),
    )


def _each_once(vibs: Iterable[Found | SoftwarePackage]) -> Sequence[Found]:
    wanted: dict[str, Found] = {}
    for vib in vibs:
        found = vib if isinstance(vib, Found) else Found(vib, "")
        before = wanted.setdefault(found.package.id, found)
        if before is not found and differences(before.package, found.package):
            raise ProfileError(f"{found.package.id} was given twice, with different contents")
    relations = Relations(one.package for one in wanted.values())
    for one in wanted.values():
        for relation in relations.replaces(one.package):
            raise ProfileError(f"{relation.holder} replaces {relation.target}: add one of both only")
    return list(wanted.values())


def refuse_read_only(profile: ImageProfile) -> None:
    """Raises ProfileError for a profile that must not be changed."""
    if profile.read_only:
        raise ProfileError(
            f"image profile {profile.name!r} is read-only: clone it and change the clone,"
            " or take the protection off with --no-read-only first"
        )


def _refuse_downgrade(resolved: ResolvedProfile, package: SoftwarePackage, *, allow: bool) -> None:
    for present in resolved.packages.values():
        same = present.name == package.name and meet(present, package)
        if same and package.version_object < present.version_object and not allow:
            raise ProfileError(
                f"the profile has {present.id}, which is newer than {package.id}: use --allow-downgrade"
            )


def _member(resolved: ResolvedProfile, text: str) -> str:
    """The id of the one member that has this id or name."""
    ids = {*resolved.profile.vib_list, *resolved.packages, *resolved.missing}
    if text in ids:
        return text
    packages = resolved.packages
    named = sorted(
        vib for vib in ids if (packages[vib].name if vib in packages else vib_name(vib)[0]) == text
    )
    if len(named) > 1:
        raise ProfileError(f"the profile has several VIBs {text!r}: {', '.join(named)}; give the id")
    if not named:
        known = [*ids, *(package.name for package in resolved.packages.values())]
        raise ProfileError(
            f"image profile {resolved.profile.name!r} has no VIB {text!r}{nearest(text, known)}"
        )
    return named[0]


def _newly_unmet(resolved: ResolvedProfile, staying: Sequence[SoftwarePackage]) -> list[str]:
    before, after = Relations(resolved.packages.values()), Relations(staying)
    return [
        f"{package.id} needs {constraint}"
        for package in sorted(staying, key=lambda package: package.id)
        for constraint in after.unmet(package)
        if before.met(package, constraint)
    ]
