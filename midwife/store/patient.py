"""A store that boots do not wait for: what cannot be written now (the disk is full) is kept and written later.

Observed state is history; a machine that asks for its configuration gets it whether or not we can write that
down. Runs use the plain ``Store``: what they did must be on disk before they go on. Used on one thread only.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from midwife.store.records import Attempt, HostRow
from midwife.store.store import Store

__all__ = ["PatientStore"]

_EVENTS_KEPT = 5000


@dataclass(slots=True)
class _Backlog:
    """The newest value of each row, and the events in order; the oldest events are lost first."""

    hosts: dict[str, HostRow] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))


class PatientStore(Store):
    """The same database as a ``Store``; reads see what is not written yet."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._backlog: _Backlog | None = None
        self._log = structlog.get_logger().bind(part="control")

    @classmethod
    def over(cls, store: Store) -> "PatientStore":
        """On the database of an open store, which stays the one to close."""
        return cls(store._engine)

    def host(self, name: str) -> HostRow | None:
        """The host's row."""
        kept = self._backlog.hosts.get(name) if self._backlog else None
        return kept or super().host(name)

    def hosts(self) -> list[HostRow]:
        """Every host ever seen or named by the site."""
        rows = {row.id: row for row in super().hosts()}
        if self._backlog:
            rows |= self._backlog.hosts
        return [rows[name] for name in sorted(rows)]

    def save_host(self, *rows: HostRow) -> None:
        """Insert or replace, now or later."""
        if not self._done(lambda: Store.save_host(self, *rows)):
            self._kept.hosts.update({row.id: row for row in rows})

    def attempt(self, attempt: str) -> Attempt | None:
        """One boot attempt."""
        kept = self._backlog.attempts.get(attempt) if self._backlog else None
        return kept or super().attempt(attempt)

    def save_attempt(self, attempt: Attempt, host: HostRow | None = None) -> None:
        """Insert or replace, now or later."""
        if not self._done(lambda: Store.save_attempt(self, attempt, host)):
            self._kept.attempts[attempt.id] = attempt
            if host:
                self._kept.hosts[host.id] = host

    def add_event(
        self,
        kind: str,
        text: str,
        *,
        host: str = "",
        attempt: str = "",
        data: Mapping[str, Any] | None = None,
        at: float | None = None,
    ) -> None:
        """Append one line to a timeline, now or later."""
        words: dict[str, Any] = {"host": host, "attempt": attempt, "data": data, "at": at}
        if not self._done(lambda: Store.add_event(self, kind, text, **words)):
            self._kept.events.append({"kind": kind, "text": text, **words})

    def rename_host(self, old: str, new: str) -> None:
        """A stranger got a name. With a full disk it stays a stranger until the site is read again."""
        self._done(lambda: Store.rename_host(self, old, new))

    def remove_host(self, name: str) -> None:
        """Forget a host. With a full disk it stays until the site is read again."""
        self._done(lambda: Store.remove_host(self, name))

    def catch_up(self) -> None:
        """Try to write what waits. Cheap when nothing does; called twice a second."""
        waiting = self._backlog
        if waiting is None:
            return
        try:
            while waiting.hosts:
                super().save_host(next(iter(waiting.hosts.values())))
                del waiting.hosts[next(iter(waiting.hosts))]
            while waiting.attempts:
                super().save_attempt(next(iter(waiting.attempts.values())))
                del waiting.attempts[next(iter(waiting.attempts))]
            while waiting.events:
                super().add_event(**waiting.events[0])
                waiting.events.popleft()
        except OperationalError:
            return
        self._backlog = None
        self._log.info("the database can be written again; nothing is missing from it")

    @property
    def _kept(self) -> _Backlog:
        if self._backlog is None:
            self._backlog = _Backlog()
        return self._backlog

    def _done(self, write: Callable[[], None]) -> bool:
        """Whether it is written; False while anything older waits, so that the order stays."""
        if self._backlog is not None:
            return False
        try:
            write()
        except OperationalError as error:
            self._fall_behind(error)
            return False
        return True

    def _fall_behind(self, error: OperationalError) -> None:
        self._backlog = _Backlog()
        self._log.error(
            "the database cannot be written; boots go on, their history is kept in memory until it can",
            reason=str(error.orig),
            hint="is the disk full? df -h on server.data",
        )
