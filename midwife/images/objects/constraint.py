"""What a VIB provides, and what it demands of others: ``SoftwareProvide`` and ``SoftwareConstraint``.

Source: VMware's documentation of MatchesProvide; how versions without a release compare was seen on ESXi 6.7.
"""

import re
from dataclasses import dataclass
from typing import Any, Protocol

from midwife.images.objects.version import SoftwareVersion

__all__ = ["RELATIONS", "Provider", "SoftwareConstraint", "SoftwareProvide"]

RELATIONS = ("<<", "<=", "=", ">=", ">>")
_TEXT = re.compile(r"\s*([^\s<>=]+)\s*(?:(<<|<=|=|>=|>>)\s*([^\s<>=]+)\s*)?")


@dataclass(frozen=True, slots=True)
class SoftwareProvide:
    """Something that can be depended upon: the VIB itself, a virtual package, an interface."""

    name: str
    release: SoftwareVersion | None = None

    @property
    def version(self) -> str | None:
        """The version as text."""
        return None if self.release is None else str(self.release)

    def __str__(self) -> str:
        return self.name if self.release is None else f"{self.name} = {self.release}"

    def documented(self) -> dict[str, Any]:
        """By the documented names, for JSON."""
        return {"Name": self.name, "Version": self.version}


class Provider(Protocol):
    """Whatever provides things: a SoftwarePackage."""

    @property
    def all_provides(self) -> tuple[SoftwareProvide, ...]:
        """Its own name and version among them."""


@dataclass(frozen=True, slots=True)
class SoftwareConstraint:
    """``name``, or ``name relation version``; relation and version come together or not at all."""

    name: str
    relation: str | None = None
    version_object: SoftwareVersion | None = None

    def __post_init__(self) -> None:
        if (self.relation is None) != (self.version_object is None):
            raise ValueError(f"constraint on {self.name}: relation and version come together or not at all")
        if self.relation is not None and self.relation not in RELATIONS:
            known = " ".join(RELATIONS)
            raise ValueError(
                f"constraint on {self.name}: {self.relation!r} is no relation; there are: {known}"
            )

    @classmethod
    def parse(cls, text: str) -> "SoftwareConstraint":
        """From ``esx-base >= 6.7.0``. Raises ValueError."""
        match = _TEXT.fullmatch(text)
        if not match or match[3] == "-":  # a dash alone is no version
            raise ValueError(
                f"{text!r} is not a constraint; write NAME, or NAME >= VERSION ({' '.join(RELATIONS)})"
            )
        name, relation, version = match.groups()
        return cls(name, relation, SoftwareVersion.parse(version) if relation else None)

    @property
    def version(self) -> str | None:
        """The version as text."""
        return None if self.version_object is None else str(self.version_object)

    def matches_provide(self, other: "SoftwareProvide | Provider") -> bool:
        """Whether a provide, or any provide of a package (its own name and version among them), satisfies it.

        Names must be equal. Without a relation that is enough. A provide without a version satisfies no
        relation. A constraint without a release looks at what is before the dash only.
        """
        if not isinstance(other, SoftwareProvide):
            return any(self.matches_provide(provide) for provide in other.all_provides)
        if self.name != other.name:
            return False
        if self.relation is None or self.version_object is None:
            return True
        if other.release is None:
            return False
        if self.version_object.release:
            order = SoftwareVersion.compare(other.release, self.version_object)
        else:
            order = other.release.compare_versions(self.version_object)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[
            self.relation
        ]

    def __str__(self) -> str:
        return self.name if self.relation is None else f"{self.name} {self.relation} {self.version}"

    def documented(self) -> dict[str, Any]:
        """By the documented names, for JSON."""
        return {"Name": self.name, "Relation": self.relation, "Version": self.version}
