"""VIBs that lie about: one .vib file, or a folder of them, as a depot without profiles and bulletins.

Listing reads descriptors, not payloads, and keeps no file open. Knows no index and no metadata.
"""

from collections.abc import Mapping
from pathlib import Path

from midwife.images.depot.depot import Bulletin
from midwife.images.depot.merge import differences, merge
from midwife.images.depot.sources.folder import open_by_path, walk
from midwife.images.errors import FormatError, ImageError
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.container import VibFile

__all__ = ["LooseVibs"]

_MAX_FILES = 20_000

_Unclear = tuple[list[Path], str]
"""Files that have one id, and what they differ in."""


class LooseVibs:
    """A ``Depot`` of the .vib files at a path. Raises ImageError only.

    In a folder, a file that is no readable VIB is left out with a warning; so is a VIB whose id comes with two
    different contents, for nobody can know which is meant. Links to folders are not followed.
    """

    profiles: tuple[ImageProfile, ...] = ()
    bulletins: tuple[Bulletin, ...] = ()

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        self.name = path.name or str(path)
        warnings: list[str] = []
        if not path.exists():
            raise ImageError(f"{path} does not exist")
        found = _vib_files(path, warnings) if path.is_dir() else [path]
        if not found:
            raise ImageError(_nothing_in(path, warnings))
        self._packages: dict[str, SoftwarePackage] = {}
        self._files: dict[str, Path] = {}
        unclear: dict[str, _Unclear] = {}
        for file in found:
            try:
                vib = _opened(file)
            except ImageError as error:
                if file == path:
                    raise
                warnings.append(f"{error}; it is left out")
                continue
            warnings += vib.warnings
            self._take(vib.package, file, unclear)
        for vib_id, (files, why) in unclear.items():
            del self._packages[vib_id], self._files[vib_id]
            names = ", ".join(str(file.relative_to(path)) for file in files)
            warnings.append(
                f"{path}: {len(files)} files with different contents have the VIB id {vib_id}: {names} "
                f"(they differ in {why}); none is used: keep the one that is meant, or give that file alone"
            )
        if not self._packages:
            raise FormatError(f"{path}: no VIB in it can be used: {warnings[0]}")
        self._packages = dict(sorted(self._packages.items()))
        self.warnings: tuple[str, ...] = tuple(dict.fromkeys(warnings))

    @property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""
        return self._packages

    def file(self, vib_id: str) -> Path:
        """The .vib it came from. Raises ImageError."""
        if vib_id not in self._files:
            raise ImageError(f"{self.source} has no VIB {vib_id}")
        return self._files[vib_id]

    def vib(self, vib_id: str) -> VibFile:
        """Opened anew; it holds no file open, so it need not be closed."""
        file = self.file(vib_id)
        vib = _opened(file)
        if vib.package.id != vib_id or differences(vib.package, self._packages[vib_id]):
            raise FormatError(f"{file} changed since it was listed; start again")
        return vib

    def _take(self, package: SoftwarePackage, file: Path, unclear: dict[str, "_Unclear"]) -> None:
        vib_id = package.id
        known = self._packages.setdefault(vib_id, package)
        first = self._files.setdefault(vib_id, file)
        if found := differences(known, package):
            unclear.setdefault(vib_id, ([first], ", ".join(found)))[0].append(file)
        elif vib_id in unclear and file != first:
            unclear[vib_id][0].append(file)
        elif merge(known, package) is package:
            self._packages[vib_id], self._files[vib_id] = package, file


def _nothing_in(folder: Path, warnings: list[str]) -> str:
    """Why a folder cannot be used, and what is near: what people call a depot is often the folder around it."""
    others = [
        entry.name
        for entry in walk(folder, [])
        if entry.name.lower().endswith((".zip", ".iso")) and not entry.name.startswith(".")
    ]
    shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
    hint = f", but {shown}: add each of them itself" if others else ""
    odd = f"; {warnings[0]}" if warnings else ""
    return f"{folder} holds no .vib file and no index.xml{hint}{odd}"


def _opened(file: Path) -> VibFile:
    return VibFile.from_stream(open_by_path(file), str(file))


def _vib_files(folder: Path, warnings: list[str]) -> list[Path]:
    """Sorted, so that the same folder always gives the same depot."""
    found: list[Path] = []
    for entry in walk(folder, warnings):
        if entry.name.lower().endswith(".vib") and not entry.name.startswith("."):
            found.append(Path(entry.path))
        if len(found) > _MAX_FILES:
            raise ImageError(f"{folder} holds more than {_MAX_FILES} VIBs; give a smaller folder")
    return sorted(found)
