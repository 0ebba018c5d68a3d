"""``Depot``: a set of VIBs, image profiles and bulletins, whatever it is kept in; and ``Bulletin``.

Source: the layout of VMware's offline bundles. A component (7.0 and later) is a bulletin with both Spec elements.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from midwife.images.objects.package import SoftwarePackage, SoftwarePlatform
from midwife.images.objects.profile import ImageProfile
from midwife.images.vib.content import Vib

__all__ = ["Bulletin", "ComponentSpec", "Depot"]


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """Name or version of a component, and how it is shown to people."""

    value: str
    ui: str = ""


@dataclass(frozen=True, slots=True)
class Bulletin:
    """A notice about VIBs that belong together."""

    id: str
    vendor: str = ""
    summary: str = ""
    severity: str = "general"
    category: str = ""
    urgency: str = ""
    release_type: str = ""
    description: str = ""
    kb_url: str = ""
    contact: str = ""
    release_date: datetime | None = None
    platforms: tuple[SoftwarePlatform, ...] = ()
    vibs: tuple[str, ...] = ()
    """VIB ids."""
    component_name: ComponentSpec | None = None
    component_version: ComponentSpec | None = None

    @property
    def is_component(self) -> bool:
        """Whether it is a component of ESXi 7.0 or later."""
        return self.component_name is not None and self.component_version is not None


class Depot(Protocol):
    """Lists without reading payloads. ``vib`` raises ImageError."""

    @property
    def name(self) -> str:
        """Its name in the depot library, or that of the file."""

    @property
    def source(self) -> str:
        """Path or URL, as it was given."""

    @property
    def packages(self) -> Mapping[str, SoftwarePackage]:
        """By VIB id, sorted."""

    @property
    def profiles(self) -> tuple[ImageProfile, ...]:
        """Sorted by name."""

    @property
    def bulletins(self) -> tuple[Bulletin, ...]:
        """Sorted by id."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was tolerated while reading, in sentences that name the place."""

    def vib(self, vib_id: str) -> Vib:
        """The VIB itself; an online depot downloads it first."""
