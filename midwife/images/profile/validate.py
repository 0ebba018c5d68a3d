"""Everything that is wrong with an image profile, all at once, each with its reason and what mends it.

Source: the checks of ESXi 6.7 and Image Builder; docs/reference/validation.md explains each finding. Pure: what
needs the VIBs' bytes (signatures) is given as ``proofs``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.filesets import shared_files
from midwife.images.profile.hardware import CONFLICTING, hardware_rules
from midwife.images.profile.relations import Relations
from midwife.images.profile.remedies import Remedies
from midwife.images.profile.resolved import Finding, ResolvedProfile
from midwife.images.vib.paths import broken_path_rules

__all__ = ["KINDS", "Proved", "validate"]

KINDS = {
    "missing-vib": 0,
    "no-base-vib": 0,
    "no-boot-kernel": 0,
    "file-conflict": 0,
    "file-path": 1,
    "acceptance": 2,
    "signature": 2,
    "missing-dependency": 3,
    "conflict": 3,
    "obsolete": 3,
    "hardware": 3,
}
"""Every kind of finding, and its place in ESXi's order of reports."""

_SHOWN = 3
"""Paths, VIBs and sentences that a reason names before it counts the rest."""


class Proved(Protocol):
    """What a VIB's signature proves: ``Proof`` of ``midwife.images.vib.signing.signature``."""

    @property
    def level(self) -> AcceptanceLevel:
        """The level that is proved."""

    @property
    def reason(self) -> str:
        """Why no more than that."""


def validate(
    resolved: ResolvedProfile,
    catalogue: Catalogue | None = None,
    proofs: Mapping[str, Proved] | None = None,
) -> tuple[Finding, ...]:
    """All findings, sorted: the same for the same VIBs in any order. Empty: the profile is valid.

    ``catalogue``: where remedies are looked for. ``proofs`` by VIB id: without them, and in profiles that say
    ``signature_check`` False, claimed levels are believed.
    """
    packages = [resolved.packages[vib] for vib in sorted(resolved.packages)]
    relations = Relations(packages)
    remedies = Remedies(resolved, relations, catalogue)
    found = [
        *_missing_vibs(resolved, remedies),
        *_base(packages, remedies),
        *_shared(packages, remedies),
        *_paths(packages, remedies),
        *_levels(resolved, packages, remedies),
        *_signatures(resolved, packages, proofs or {}, remedies),
        *_dependencies(packages, relations, remedies),
        *_conflicts(packages, relations, remedies),
        *_obsolete(packages, relations, remedies),
        *_hardware(packages, remedies),
    ]
    return tuple(sorted(found))


def _finding(kind: str, vib: str, reason: str, remedy: str) -> Finding:
    return Finding(KINDS[kind], kind, vib, reason, remedy)


def _missing_vibs(resolved: ResolvedProfile, remedies: Remedies) -> Iterator[Finding]:
    for vib in resolved.missing:
        yield _finding("missing-vib", vib, f"{vib} is in none of the depots.", remedies.missing_vib(vib))


def _base(packages: Sequence[SoftwarePackage], remedies: Remedies) -> Iterator[Finding]:
    if not any(provide.name == "esx-version" for one in packages for provide in one.all_provides):
        reason = "No VIB of the profile is a base VIB: none provides esx-version."
        yield _finding("no-base-vib", "", reason, remedies.provider(SoftwareConstraint("esx-version")))
    if not any(payload.type == "boot" for one in packages if not one.dpu_only for payload in one.payloads):
        reason = "No VIB of the profile has a bootable kernel: none has a payload of the type boot."
        yield _finding("no-boot-kernel", "", reason, remedies.provider(SoftwareConstraint("esx-version")))


def _shared(packages: Sequence[SoftwarePackage], remedies: Remedies) -> Iterator[Finding]:
    for shared in shared_files(packages):
        first, *others = shared.vibs
        kind = "overlay VIBs" if shared.overlay else "VIBs"
        both = "Both" if len(others) == 1 else f"All {len(shared.vibs)}"
        reason = (
            f"{first} and {_few(others)} are {kind} that bring the same files: {_few(shared.paths)}."
            f" {both} can't be in one image."
        )
        yield _finding("file-conflict", first, reason, remedies.one_of(shared.vibs))


def _paths(packages: Sequence[SoftwarePackage], remedies: Remedies) -> Iterator[Finding]:
    for package in packages:
        if broken := broken_path_rules(package):
            more = [f"and {len(broken) - _SHOWN} more"] if len(broken) > _SHOWN else []
            told = "; ".join([*broken[:_SHOWN], *more])
            reason = f"{package.id} breaks the rules for {package.acceptance_level} VIBs: {told}."
            yield _finding("file-path", package.id, reason, remedies.paths(package.id))


def _levels(
    resolved: ResolvedProfile, packages: Sequence[SoftwarePackage], remedies: Remedies
) -> Iterator[Finding]:
    least = resolved.profile.acceptance_level
    below = [package for package in packages if package.acceptance_level < least]
    lowest = min((package.acceptance_level for package in below), default=least)
    for package in below:
        reason = (
            f"{package.id} is {package.acceptance_level.documented};"
            f" the profile asks for {least.documented} at least."
        )
        yield _finding("acceptance", package.id, reason, remedies.level(package.id, lowest))


def _signatures(
    resolved: ResolvedProfile,
    packages: Sequence[SoftwarePackage],
    proofs: Mapping[str, Proved],
    remedies: Remedies,
) -> Iterator[Finding]:
    if not resolved.profile.signature_check:
        return
    for package in packages:
        proof = proofs.get(package.id)
        if proof is not None and proof.level < package.acceptance_level:
            why = f": {proof.reason}" if proof.reason else ""
            reason = (
                f"{package.id} claims to be {package.acceptance_level.documented}, which is not proved{why}"
            )
            yield _finding("signature", package.id, _sentence(reason), remedies.signature(package.id))


def _dependencies(
    packages: Sequence[SoftwarePackage], relations: Relations, remedies: Remedies
) -> Iterator[Finding]:
    for package in packages:
        for constraint in relations.unmet(package):
            reason = f"{package.id} needs {constraint}, which no VIB of the profile provides."
            remedy = remedies.provider(constraint, package.id)
            yield _finding("missing-dependency", package.id, reason, remedy)


def _conflicts(
    packages: Sequence[SoftwarePackage], relations: Relations, remedies: Remedies
) -> Iterator[Finding]:
    for package in packages:
        mine: dict[str, list[str]] = {}
        for relation in relations.declared_conflicts(package):
            other = relations.packages[relation.target]
            # A pair of which both say it is told once, by the first.
            if other.id < package.id and any(said.matches_provide(package) for said in other.conflicts):
                continue
            mine.setdefault(relation.text, []).append(other.id)
        for text, others in mine.items():
            reason = f"{package.id} conflicts with {_few(others)} (it says: {text})."
            yield _finding("conflict", package.id, reason, remedies.one_of((package.id, *others)))


def _obsolete(
    packages: Sequence[SoftwarePackage], relations: Relations, remedies: Remedies
) -> Iterator[Finding]:
    for package in packages:
        replacers = {relation.holder: relation.text for relation in relations.replaced_by(package)}
        if not replacers:
            continue
        newest = max(replacers, key=lambda vib: (relations.packages[vib].version_object, vib))
        rest = f" So do {len(replacers) - 1} more." if len(replacers) > 1 else ""
        if relations.packages[newest].name == package.name:
            reason = f"The profile has {package.name} in two versions: {newest} replaces {package.id}.{rest}"
        else:
            reason = f"{newest} replaces {package.id} (it says: {replacers[newest]}).{rest}"
        yield _finding("obsolete", package.id, reason, remedies.without(package.id))


def _hardware(packages: Sequence[SoftwarePackage], remedies: Remedies) -> Iterator[Finding]:
    if hardware_rules(packages) != (CONFLICTING,):
        return
    restricting = [package.id for package in packages if package.hardware_platforms]
    reason = f"No machine fits: {_few(restricting)} are for hardware that has nothing in common."
    yield _finding("hardware", "", reason, remedies.one_of(restricting))


def _few(names: Iterable[str]) -> str:
    names = list(names)
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
