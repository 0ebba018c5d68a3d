"""Versions of VIBs and how they compare: ``8.0.3-0.35.24280767`` is version ``8.0.3``, release ``0.35.24280767``.

Each half is split at dots; a field is its leading decimal digits as a number (-1 without any) and the rest as
text. Lists of such pairs compare like words in a dictionary, the version before the release.
Source: ESXi's own comparison, confirmed on the vectors in tests/images/objects/test_version.py.
"""

import re
from dataclasses import dataclass, field
from functools import total_ordering

__all__ = ["SoftwareVersion"]

_FIELD = re.compile(r"([0-9]*)(.*)", re.DOTALL)
_Key = tuple[tuple[int, str], ...]


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class SoftwareVersion:
    """A version as it was written; equal when it compares equal (``1.0`` and ``1.00`` do)."""

    version: str
    """Before the dash."""
    release: str = ""
    """After the dash; "" without one."""
    _key: tuple[_Key, _Key] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", (_fields(self.version), _fields(self.release)))

    @classmethod
    def parse(cls, text: str) -> "SoftwareVersion":
        """Raises ValueError for a second dash, a blank, or a number of more than 4,000 digits."""
        version, _, release = text.partition("-")
        if "-" in release or any(c.isspace() for c in text):
            raise ValueError(
                f"{text!r} is not a version: VERSION-RELEASE, with one dash at most and no blanks"
            )
        return cls(version, release)

    @staticmethod
    def compare(a: "SoftwareVersion | str", b: "SoftwareVersion | str") -> int:
        """1 if ``a`` is higher, 0 if they are equal, -1 if ``b`` is. Raises ValueError for a bad text."""
        first = SoftwareVersion.parse(a) if isinstance(a, str) else a
        second = SoftwareVersion.parse(b) if isinstance(b, str) else b
        return (first > second) - (first < second)

    def compare_versions(self, other: "SoftwareVersion") -> int:
        """Like ``compare``, of what is before the dashes only."""
        return (self._key[0] > other._key[0]) - (self._key[0] < other._key[0])

    def __str__(self) -> str:
        return f"{self.version}-{self.release}" if self.release else self.version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftwareVersion) and self._key == other._key

    def __lt__(self, other: "SoftwareVersion") -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _fields(half: str) -> _Key:
    found = []
    for part in half.split("."):
        match = _FIELD.fullmatch(part)
        digits, rest = match.groups() if match else ("", part)
        if len(digits) > 4000:  # int() itself refuses a little more than that
            raise ValueError(f"{half[:40]!r}… is not a version: a number of {len(digits)} digits")
        found.append((int(digits) if digits else -1, rest))
    return tuple(found)
