"""Gets Debian packages and unpacks them beside the system, without installing anything.

Works through the ordinary clients (``apt-cache``, ``apt-get download``, ``dpkg-deb``), so mirrors, proxies
and signatures are as the machine's owner has set them. Knows nothing of what the packages are for.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Debs", "PackageError"]

_DEPENDS = re.compile(r"\s+\|?(?:Pre)?Depends: (\S+)")
_URI = re.compile(r"'\S+' (\S+\.deb) \d+")


class PackageError(Exception):
    """A package cannot be had here; the message says which, why, and what to do."""


class Debs:
    """Packages by name, kept in a cache directory."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def files(self, packages: Iterable[str]) -> dict[str, str]:
        """The file name, which holds the version, of each package's newest version. Raises PackageError."""
        wanted = sorted(set(packages))
        # Asked from an empty directory: apt-get is silent about what lies in the current one already.
        with tempfile.TemporaryDirectory() as empty:
            try:
                uris = self._apt("apt-get", "download", "--print-uris", *wanted, where=Path(empty))
            except PackageError:
                self._update()
                uris = self._apt("apt-get", "download", "--print-uris", *wanted, where=Path(empty))
        names = {name.split("_", 1)[0]: name for name in _URI.findall(uris)}
        if missing := [package for package in wanted if package not in names]:
            raise PackageError(f"apt-get download knows no file for {', '.join(missing)}")
        return names

    def dependency(self, package: str, pattern: str) -> str:
        """What a meta package stands for: the first dependency that matches. Raises PackageError."""
        for attempt in ("as is", "updated"):
            if attempt == "updated":
                self._update()
            try:
                text = self._apt("apt-cache", "depends", package)
            except PackageError:
                continue
            names: list[str] = _DEPENDS.findall(text)
            if found := [name for name in names if re.fullmatch(pattern, name)]:
                return found[0]
        raise PackageError(
            f"no package {package} in apt's lists: the guest's kernel is Debian's, so run this on"
            " Debian 12 or later, with its 'main' archive in the sources"
        )

    def libraries(self, packages: Iterable[str]) -> set[str]:
        """The shared library packages that these packages need, and those need in turn."""
        roots = list(packages)
        text = self._apt(
            "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
            "--no-breaks", "--no-replaces", "--no-enhances", *roots,
        )  # fmt: skip
        needs: dict[str, list[str]] = {}
        current = ""
        for line in text.splitlines():
            if match := _DEPENDS.match(line):
                needs.setdefault(current, []).append(match[1])
            elif line and not line[0].isspace():
                current = line.strip()
        found: set[str] = set()
        todo = list(roots)
        while todo:
            for name in needs.get(todo.pop(), []):
                if (
                    name not in found
                    and re.match(r"lib[a-z]|zlib1g", name)
                    and not name.startswith("libpam-")
                ):
                    found.add(name)
                    todo.append(name)
        return found

    def unpack(self, files: Iterable[str], to: Path) -> None:
        """Downloads what the cache lacks and unpacks all of it into one tree. Raises PackageError."""
        self._cache.mkdir(parents=True, exist_ok=True)
        names = sorted(set(files))
        absent = [name for name in names if not (self._cache / name).is_file()]
        if absent:
            self._apt("apt-get", "download", *(name.split("_", 1)[0] for name in absent))
        for name in names:
            if not (self._cache / name).is_file():
                raise PackageError(
                    f"apt-get download said it was done, but {self._cache / name} is not there"
                )
            subprocess.run(["dpkg-deb", "-x", self._cache / name, to], check=True)

    def _update(self) -> None:
        if os.geteuid() != 0:
            raise PackageError("apt's package lists are empty or too old: run 'apt-get update' as root")
        self._apt("apt-get", "update")

    def _apt(self, program: str, *args: str, where: Path | None = None) -> str:
        # As root apt would hand downloads to the user _apt, who may not write to our cache.
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        self._cache.mkdir(parents=True, exist_ok=True)
        command = [program, *sandbox, "-q", *args]
        try:
            done = subprocess.run(
                command, cwd=where or self._cache, capture_output=True, text=True, timeout=600
            )
        except FileNotFoundError:
            raise PackageError(f"{program} is not here: the guest is made of Debian packages") from None
        if done.returncode != 0:
            raise PackageError(
                f"'{' '.join([program, *args])}' failed: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout
