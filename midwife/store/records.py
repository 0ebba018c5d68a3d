"""Rows as values: what the control process reads back from the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from midwife.core.facts import Facts
from midwife.core.lifecycle import State

__all__ = ["Attempt", "Event", "HostRow", "RunRow"]


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as last seen."""

    id: str
    known: bool
    facts: Facts
    state: State
    since: float
    attempt: str
    image: str
    note: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trip of a host from its first packet to ready or failed."""

    id: str
    host: str
    state: State
    started: float
    since: float
    deadline: float | None = None
    ended: float | None = None
    address: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()
    error: str = ""

    @property
    def complete(self) -> int:
        """How many files of the image arrived whole."""
        return sum(self.sent.get(name, 0) >= size for name, size in self.files.items())

    @property
    def loaded(self) -> bool:
        """Every file of the image arrived."""
        return bool(self.files) and self.complete == len(self.files)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One execution of a plan."""

    id: str
    host: str
    attempt: str
    plan: Mapping[str, Any]
    target: Mapping[str, Any]
    state: str
    step: int
    label: str
    memory: Mapping[str, Any]
    started: float
    ended: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline."""

    id: int
    at: float
    host: str
    attempt: str
    kind: str
    text: str
    data: Mapping[str, Any]
