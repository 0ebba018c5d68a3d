"""``image.json``, which says what was imported: one per image in the library, beside its ``files/``.

Written whole or not at all. A newer version's keys are passed over, so an older midwife can read its library.
Knows nothing of ISO files or of serving.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from midwife.images.disk import replacing
from midwife.images.errors import ImageError
from midwife.images.objects.profile import HardwareRule

__all__ = ["FILES", "MANIFEST", "Entry", "Manifest", "read_manifest", "write_manifest"]

MANIFEST = "image.json"
FILES = "files"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an image: bytes, and lower-case hexadecimal SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of an imported image."""

    name: str
    kind: str
    """"esxi": nothing else is imported."""
    title: str
    """``title=`` of its boot.cfg."""
    build: str
    """``8.0.3-0.0.24022510``, or as much of it as the image tells; "" for none."""
    profile: str
    """Name of the image profile (``ESXi-8.0U3-24022510-standard``), "" if the image has none."""
    source: str
    """File name of the ISO; ``profile NAME`` for an image that was made of an image profile."""
    iso_sha256: str
    """"" for an image that was made of an image profile."""
    imported: str
    """UTC, ISO 8601."""
    boot_cfg: str
    """The image's own boot.cfg, as text."""
    netboot: bool = False
    """Whether the boot module is added when it is served."""
    profile_digest: str = ""
    """What the image profile was when the image was made of it (export/install.py); "" for an ISO."""
    hardware: tuple[HardwareRule, ...] = ()
    """Which machines it is for: the *Rules* of the image profile that it was made of. Empty: every machine."""
    files: Mapping[str, Entry] = field(default_factory=dict)
    """By path below ``files/``, lower case."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @property
    def made_of(self) -> str:
        """The image profile that it was made of; "" for an imported ISO, whichever profile that has."""
        return self.profile if self.profile_digest else ""

    def with_netboot(self, on: bool) -> "Manifest":
        """The same image with or without the boot module."""
        return replace(self, netboot=on)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace ``image.json`` in one step. Raises OSError."""
    text = json.dumps(asdict(manifest), indent=1)
    with replacing(directory / MANIFEST) as out:
        out.write(text.encode() + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """Raises ImageError if it is missing or was damaged."""
    path = directory / MANIFEST
    advice = f"remove the image with `midwife image delete {directory.name}` and import it again"
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        files = {
            _checked(name): Entry(int(entry["size"]), str(entry["sha256"]))
            for name, entry in data["files"].items()
        }
        text = {
            key: str(data[key])
            for key in ("kind", "title", "build", "profile", "source", "iso_sha256", "imported", "boot_cfg")
        }
        # The directory names the image: a renamed or copied directory is an image of its new name.
        return Manifest(
            name=directory.name,
            netboot=bool(data.get("netboot", False)),
            profile_digest=str(data.get("profile_digest", "")),
            hardware=tuple(
                HardwareRule(str(rule["vendor"]), tuple(str(model) for model in rule["models"]))
                for rule in data.get("hardware", ())
            ),
            files=files,
            **text,
        )
    except OSError as error:
        raise ImageError(f"image {directory.name}: cannot read {path}: {error.strerror}; {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ImageError(f"image {directory.name}: {path} is damaged; {advice}") from None


def _checked(name: str) -> str:
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(name)
    return name
