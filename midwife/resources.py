"""Where the files are that come with midwife: templates, and what runs on or beside the host.

The wheel carries them inside the package (``midwife/templates``, ``midwife/boot``), a checkout beside it. What
a site overrides is not known here.
"""

from pathlib import Path

__all__ = ["ResourceMissing", "boot_dir", "resource", "template_dir"]


class ResourceMissing(FileNotFoundError):
    """The installation lacks a file that it should have."""


def resource(name: str) -> Path:
    """The path of ``templates/…`` or ``boot/…``. Raises ResourceMissing with the places looked at."""
    package = Path(__file__).resolve().parent
    places = (package / name, package.parent / name)
    for place in places:
        if place.exists():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ResourceMissing(f"midwife's own file {name} is missing (looked at {looked}); install midwife again")


def template_dir() -> Path:
    """The directory of midwife's own Jinja2 templates. Raises ResourceMissing."""
    return resource("templates")


def boot_dir() -> Path:
    """The directory of what runs on or beside the host (pbconnect and its kin). Raises ResourceMissing."""
    return resource("boot")
