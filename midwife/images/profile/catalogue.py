"""``Catalogue``: all VIBs and image profiles of several depots, found by id, name or version.

Works on what depots list, reads no payload and changes nothing. Where one id has different contents in two
depots, it never guesses: the caller says which depot, or is told what to say.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from midwife.images.depot.depot import Depot
from midwife.images.errors import ProfileError
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.profile.hardware import hardware_rules
from midwife.images.profile.relations import Relations
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.profile.sameness import same_content

__all__ = ["Catalogue", "Found", "nearest", "newest_first"]


@dataclass(frozen=True, slots=True)
class Found:
    """A VIB and the depot that has it."""

    package: SoftwarePackage
    depot: str


def newest_first(found: Iterable[Found]) -> list[Found]:
    """By version, the newest first; by id where versions are equal; the depots' order where ids are."""
    by_id = sorted(found, key=lambda one: one.package.id)
    return sorted(by_id, key=lambda one: one.package.version_object, reverse=True)


def nearest(text: str, known: Iterable[str]) -> str:
    """``; nearest: a, b`` to end an error message with, or "" if nothing is near."""
    close = difflib.get_close_matches(text[:200], sorted(set(known)), n=3, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else ""


class Catalogue:
    """Depots in the order in which they are asked. Two of one name: the first counts."""

    def __init__(self, depots: Sequence[Depot]) -> None:
        self._depots: dict[str, Depot] = {}
        for depot in depots:
            self._depots.setdefault(depot.name, depot)

    @property
    def depots(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._depots)

    def all(self) -> tuple[Found, ...]:
        """Every VIB of every depot, by name, the newest first; an id that is in two depots comes twice."""
        return tuple(sorted(newest_first(self._listed(None)), key=lambda one: one.package.name))

    def search(
        self,
        text: str = "",
        *,
        vendor: str | None = None,
        depot: str | None = None,
        tag: str | None = None,
        newest: bool = False,
    ) -> tuple[Found, ...]:
        """Like ``all``: those with ``text`` in id or summary, any case. ``newest``: one for each name.

        Raises ProfileError for a depot that is not there.
        """
        if depot is not None:
            self._depot(depot)
        hits: list[Found] = []
        for one in self.all():
            package = one.package
            if (
                depot in (None, one.depot)
                and (vendor is None or package.vendor.casefold() == vendor.casefold())
                and (tag is None or tag in package.tags)
                and (
                    text.casefold() in package.id.casefold() or text.casefold() in package.summary.casefold()
                )
                and not (newest and hits and hits[-1].package.name == package.name)
            ):
                hits.append(one)
        return tuple(hits)

    def find(self, text: str, depot: str | None = None) -> Found:
        """One VIB by id, by name (the newest of all depots) or by ``NAME=VERSION``; ``DEPOT:…`` asks one depot.

        Raises ProfileError if there is none, if several VIBs fit equally well, and if two depots have the id
        with different contents.
        """
        depot, wanted = self._split(text, depot)
        if hits := [one for one in self._ids.get(wanted, ()) if depot in (None, one.depot)]:
            return _only_content(hits)
        name, equals, version = wanted.partition("=")
        named = [one for one in self._names.get(name, ()) if depot in (None, one.depot)]
        if equals:
            named = [one for one in named if one.package.version == version]
        if not named:
            raise ProfileError(f"there is no VIB {wanted!r} in {self._where(depot)}{self._near(wanted)}")
        best = newest_first(named)
        first = best[0].package
        equal = [one for one in best if one.package.version_object == first.version_object]
        if len(ids := sorted({one.package.id for one in equal})) > 1:
            raise ProfileError(f"{wanted!r} can be {' or '.join(ids[:5])}: give the id")
        return _only_content(equal)

    def profile(
        self, name: str, depot: str | None = None, vendor: str | None = None
    ) -> tuple[str, ImageProfile]:
        """The depot and the image profile of that name; ``DEPOT:NAME`` asks one depot. Raises ProfileError."""
        depot, wanted = self._split(name, depot)
        listed = [
            (one.name, profile)
            for one in self._depots.values()
            if depot in (None, one.name)
            for profile in one.profiles
        ]
        hits = [
            (where, profile)
            for where, profile in listed
            if profile.name == wanted and vendor in (None, profile.vendor)
        ]
        if not hits:
            near = nearest(wanted, (profile.name for _, profile in listed))
            raise ProfileError(f"there is no image profile {wanted!r} in {self._where(depot)}{near}")
        vendors = sorted({profile.vendor for _, profile in hits})
        if len(vendors) > 1:
            raise ProfileError(
                f"several vendors have an image profile {wanted!r}: {', '.join(vendors)}; say which with --vendor"
            )
        first_depot, first = hits[0]
        for other_depot, other in hits[1:]:
            if (first.vib_list, first.acceptance_level) != (other.vib_list, other.acceptance_level):
                if first_depot == other_depot:
                    raise ProfileError(f"depot {first_depot} has two different image profiles {wanted!r}")
                raise ProfileError(
                    f"depots {first_depot} and {other_depot} have different image profiles of the name"
                    f" {wanted!r}: write {first_depot}:{wanted} or {other_depot}:{wanted}"
                )
        return hits[0]

    def resolve(
        self,
        profile: ImageProfile,
        depots: Sequence[str] | None = None,
        pinned: Mapping[str, str] | None = None,
    ) -> ResolvedProfile:
        """The profile with its VIBs. Ids that are in no depot are told in ``missing``.

        ``pinned`` says for single ids which depot. For the others the first of ``depots`` that has the id
        counts: whoever gives an order has chosen. Without ``depots`` all are asked, and an id with different
        contents in two of them raises ProfileError, as does the name of a depot that is not there.
        """
        order = None if depots is None else [self._depot(name) for name in depots]
        pins = pinned or {}
        packages: dict[str, SoftwarePackage] = {}
        where: dict[str, str] = {}
        missing = []
        for vib in sorted(set(profile.vib_list)):
            if vib in pins:
                source = self._depot(pins[vib])
                hits = [Found(source.packages[vib], source.name)] if vib in source.packages else []
            elif order is None:
                hits = self._ids.get(vib, [])
            else:
                hits = [Found(one.packages[vib], one.name) for one in order if vib in one.packages][:1]
            if not hits:
                missing.append(vib)
                continue
            found = _only_content(hits)
            packages[vib], where[vib] = found.package, found.depot
        profile = replace(profile, rules=hardware_rules(packages.values()))
        return ResolvedProfile(profile, packages, where, tuple(missing))

    def providers(self, constraint: SoftwareConstraint) -> tuple[Found, ...]:
        """All that would satisfy it: VIBs of that very name first, then the newest first, each id once."""
        found = newest_first(self._first(vib) for vib in self._relations.providers(constraint))
        return tuple(sorted(found, key=lambda one: one.package.name != constraint.name))

    def named(self, name: str) -> tuple[Found, ...]:
        """All VIBs of a name, the newest first."""
        return tuple(newest_first(self._names.get(name, ())))

    def _first(self, vib: str) -> Found:
        return self._ids[vib][0]

    def _listed(self, depot: str | None) -> Iterator[Found]:
        for one in self._depots.values() if depot is None else [self._depot(depot)]:
            for package in one.packages.values():
                yield Found(package, one.name)

    @cached_property
    def _ids(self) -> dict[str, list[Found]]:
        ids: dict[str, list[Found]] = {}
        for one in self._listed(None):
            ids.setdefault(one.package.id, []).append(one)
        return ids

    @cached_property
    def _names(self) -> dict[str, list[Found]]:
        names: dict[str, list[Found]] = {}
        for one in self._listed(None):
            names.setdefault(one.package.name, []).append(one)
        return names

    @cached_property
    def _relations(self) -> Relations:
        """Over thousands of VIBs; made once, when the first remedy is asked for."""
        return Relations(one.package for one in self._listed(None))

    def _depot(self, name: str) -> Depot:
        if name not in self._depots:
            known = ", ".join(self._depots) or "none; `midwife depot add` brings one"
            raise ProfileError(f"there is no depot {name!r}; there are: {known}")
        return self._depots[name]

    def _split(self, text: str, depot: str | None) -> tuple[str | None, str]:
        """``DEPOT:REST``, if there is a depot of that name: ids of VIBs may hold colons."""
        before, colon, rest = text.partition(":")
        if depot is None and colon and before in self._depots and rest:
            return before, rest
        if depot is not None:
            self._depot(depot)
        return depot, text

    def _where(self, depot: str | None) -> str:
        if depot is not None:
            return f"depot {depot}"
        if not self._depots:
            return "the depots: there are none yet; `midwife depot add` brings one"
        return f"the depots {', '.join(self._depots)}"

    def _near(self, wanted: str) -> str:
        if "=" in wanted and (named := self.named(wanted.partition("=")[0])):
            versions = list(dict.fromkeys(one.package.version for one in named))
            return f"; there are the versions {', '.join(versions[:5])}"
        return nearest(wanted, self._ids if wanted.count("_") > 2 else self._names)


def _only_content(hits: Sequence[Found]) -> Found:
    first = hits[0]
    for other in hits[1:]:
        if not same_content(first.package, other.package):
            raise ProfileError(
                f"{first.package.id} is in the depots {first.depot} and {other.depot} with different contents:"
                f" say which with --depot, or write {first.depot}:{first.package.id}"
            )
    return first
