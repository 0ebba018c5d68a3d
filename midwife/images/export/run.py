"""One way out for every export of an image profile: everything is checked first, and all that is wrong is told.

Bundle, ISO, netboot tree and the tree in the image library come through here, so that none of them can be made of
a profile that the others would refuse. Knows no site and prints nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from midwife.images.boot.library import Library
from midwife.images.boot.manifest import Manifest
from midwife.images.depot.depot import Bulletin, Depot
from midwife.images.errors import ProfileError
from midwife.images.export.bundle import write_bundle
from midwife.images.export.install import install_tree
from midwife.images.export.tree import write_tree
from midwife.images.flow import Progress
from midwife.images.profile.proofs import Inspector, vibs_of
from midwife.images.profile.resolved import Finding, ResolvedProfile
from midwife.images.vib.content import Vib

__all__ = ["Export", "Refused"]

_NEVER = ("missing-vib", "signature")


class Refused(ProfileError):
    """A profile that is not exported; ``findings`` says why."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        count = f"{len(findings)} problem{'s' if len(findings) != 1 else ''}"
        super().__init__(f"image profile {name!r} has {count}; nothing was exported")
        self.findings = tuple(findings)


class Export:
    """An image profile that was found fit for export. ``Refused`` is raised for any other.

    ``gaps``: findings of the caller's. ``force``: export it with its problems, but never without a VIB, and
    never one whose signature does not prove its level: whether signatures count, the profile says. VIBs of online
    depots are downloaded.
    """

    def __init__(
        self,
        resolved: ResolvedProfile,
        depots: Mapping[str, Depot],
        inspector: Inspector,
        *,
        gaps: Sequence[Finding] = (),
        force: bool = False,
    ) -> None:
        self.profile = resolved.profile
        self._resolved = resolved
        self._depots = depots
        self.findings = (*gaps, *inspector.findings(resolved, download=True))
        """What is wrong with it all the same, because of ``force``."""
        fatal = self.findings
        if force:
            fatal = tuple(finding for finding in self.findings if finding.kind in _NEVER)
        if fatal:
            raise Refused(resolved.profile.name, fatal)

    def bundle(self, out: Path, progress: Progress | None = None) -> None:
        """An offline bundle, with the components of the profile's depots that are whole in it."""
        write_bundle(out, self._resolved, self._vibs, bulletins=self._bulletins(), progress=progress)

    def iso(
        self, out: Path, source_iso: Path | None = None, progress: Progress | None = None
    ) -> tuple[str, ...]:
        """An installer ISO; ``source_iso`` gives loaders that no VIB brings. What is worth knowing."""
        from midwife.images.export.iso import write_iso  # not above: pycdlib takes its time

        written = write_iso(out, self._resolved, self._vibs, source_iso, progress=progress)
        return written.warnings

    def netboot(
        self, directory: Path, loaders_from: Path | None = None, progress: Progress | None = None
    ) -> tuple[str, ...]:
        """The files that hosts load, in a directory of their own; what is worth knowing."""
        tree = write_tree(directory, self._resolved, self._vibs, loaders_from=loaders_from, progress=progress)
        return tree.warnings

    def install(
        self,
        library: Library,
        name: str | None,
        *,
        boot_module: bool,
        loaders_from: Path | None = None,
        progress: Progress | None = None,
    ) -> Manifest:
        """The netboot tree, in the image library: from then on an image like any other."""
        return install_tree(
            library,
            self._resolved,
            self._vibs,
            name,
            progress,
            boot_module,
            loaders_from=loaders_from,
        )

    def _vibs(self, vib_id: str) -> Vib:
        return vibs_of(self._resolved, self._depots)(vib_id)

    def _bulletins(self) -> list[Bulletin]:
        """Of every depot that the profile's VIBs are from, each once; the first depot's word counts."""
        found: dict[str, Bulletin] = {}
        for name in sorted(set(self._resolved.depots.values())):
            if name in self._depots:
                for bulletin in self._depots[name].bulletins:
                    if bulletin.is_component:
                        found.setdefault(bulletin.id, bulletin)
        return [found[key] for key in sorted(found)]
