"""Reads and writes observed state. Every method is one transaction; all of them may be called from any thread."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.database import open_database
from midwife.store.records import Attempt, Event, HostRow, RunRow
from midwife.store.tables import attempts, events, hosts, runs

__all__ = ["ATTEMPTS_KEPT", "EVENTS_KEPT", "STRANGER_EVENTS_KEPT", "Store"]

ATTEMPTS_KEPT = 20
"""Newest boot attempts of a host, with their runs. What is older goes: a boot network is hostile, and whoever asks
in a host's name again and again must not fill the disk."""
EVENTS_KEPT = 2000
"""Newest events of a host that the site names, and of what belongs to no host."""
STRANGER_EVENTS_KEPT = 100


class Store:
    """The database of one service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Raises DatabaseError."""
        return cls(open_database(path))

    def close(self) -> None:
        """Give the file back; the write-ahead log is folded in by SQLite."""
        self._engine.dispose()

    # hosts

    def host(self, name: str) -> HostRow | None:
        """The host's row."""
        with self._engine.connect() as db:
            row = db.execute(select(hosts).where(hosts.c.id == name)).mappings().first()
        return _host(row) if row else None

    def hosts(self) -> list[HostRow]:
        """Every host ever seen or named by the site."""
        with self._engine.connect() as db:
            return [_host(row) for row in db.execute(select(hosts).order_by(hosts.c.id)).mappings()]

    def strangers(self) -> int:
        """How many hosts no host file names."""
        with self._engine.connect() as db:
            query = select(func.count()).select_from(hosts).where(hosts.c.known.is_(False))
            return int(db.execute(query).scalar_one())

    def save_host(self, *rows: HostRow) -> None:
        """Insert or replace; several rows in one transaction."""
        with self._engine.begin() as db:
            for row in rows:
                _upsert_host(db, row)

    def rename_host(self, old: str, new: str) -> None:
        """A stranger got a name: its attempts and events go with it.

        Where both have a row, the stranger's boot attempt is the host's present one if the host has none.
        """
        with self._engine.begin() as db:
            there = db.execute(select(hosts.c.attempt).where(hosts.c.id == new)).first()
            if there:
                db.execute(update(attempts).where(attempts.c.host == old).values(host=new))
                db.execute(update(runs).where(runs.c.host == old).values(host=new))
                if not there.attempt:
                    present = (hosts.c.attempt, hosts.c.state, hosts.c.since, hosts.c.image, hosts.c.note)
                    row = db.execute(select(*present).where(hosts.c.id == old)).mappings().first()
                    if row and row["attempt"]:
                        db.execute(update(hosts).where(hosts.c.id == new).values(dict(row)))
                db.execute(delete(hosts).where(hosts.c.id == old))
            else:
                db.execute(update(hosts).where(hosts.c.id == old).values(id=new))
            db.execute(update(events).where(events.c.host == old).values(host=new))

    def remove_host(self, name: str) -> None:
        """Forget a host that the site no longer names and that never asked for anything."""
        with self._engine.begin() as db:
            db.execute(delete(hosts).where(hosts.c.id == name))

    # attempts

    def attempt(self, attempt: str) -> Attempt | None:
        """One boot attempt."""
        with self._engine.connect() as db:
            row = db.execute(select(attempts).where(attempts.c.id == attempt)).mappings().first()
        return _attempt(row) if row else None

    def save_attempt(self, attempt: Attempt, host: HostRow | None = None) -> None:
        """Insert or replace the attempt, together with its host's row, in one transaction."""
        values = {**asdict(attempt), "state": attempt.state.value, "pinned": list(attempt.pinned)}
        with self._engine.begin() as db:
            if host:
                _upsert_host(db, host)
            found = db.execute(update(attempts).where(attempts.c.id == attempt.id).values(values))
            if not found.rowcount:
                db.execute(insert(attempts).values(values))
                _forget_old_attempts(db, attempt.host)

    # runs

    def run(self, run: str) -> RunRow | None:
        """One run."""
        with self._engine.connect() as db:
            row = db.execute(select(runs).where(runs.c.id == run)).mappings().first()
        return RunRow(**row) if row else None

    def unfinished_runs(self) -> list[RunRow]:
        """Runs that a crash or restart interrupted, oldest first."""
        with self._engine.connect() as db:
            query = select(runs).where(runs.c.state == "running").order_by(runs.c.started)
            return [RunRow(**row) for row in db.execute(query).mappings()]

    def add_run(self, row: RunRow) -> bool:
        """False if the attempt has its run already: nothing is started twice."""
        with self._engine.begin() as db:
            if db.execute(select(runs.c.id).where(runs.c.attempt == row.attempt)).first():
                return False
            db.execute(insert(runs).values(asdict(row)))
        return True

    def update_run(self, run: str, **values: Any) -> None:
        """Change some columns of a run."""
        with self._engine.begin() as db:
            db.execute(update(runs).where(runs.c.id == run).values(values))

    # events

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
        """Append one line to a timeline; it becomes the host's note. The oldest lines give way."""
        with self._engine.begin() as db:
            db.execute(
                insert(events).values(
                    at=at or time.time(),
                    host=host,
                    attempt=attempt,
                    kind=kind,
                    text=text,
                    data=dict(data or {}),
                )
            )
            if host:
                db.execute(update(hosts).where(hosts.c.id == host).values(note=text))
            _forget_old_events(db, host)

    def events(self, host: str | None = None, after: int = 0) -> Iterable[Event]:
        """Events in order, of one host or of all."""
        query = select(events).where(events.c.id > after).order_by(events.c.id)
        if host is not None:
            query = query.where(events.c.host == host)
        with self._engine.connect() as db:
            return [Event(**row) for row in db.execute(query).mappings()]


def _forget_old_attempts(db: Connection, host: str) -> None:
    newest = (
        select(attempts.c.id)
        .where(attempts.c.host == host)
        .order_by(attempts.c.started.desc())
        .limit(ATTEMPTS_KEPT)
    )
    db.execute(delete(attempts).where(attempts.c.host == host, attempts.c.id.not_in(newest)))


def _forget_old_events(db: Connection, host: str) -> None:
    known = db.execute(select(hosts.c.known).where(hosts.c.id == host)).scalar()
    kept = STRANGER_EVENTS_KEPT if known is False else EVENTS_KEPT
    newest_to_go = (
        select(events.c.id)
        .where(events.c.host == host)
        .order_by(events.c.id.desc())
        .limit(1)
        .offset(kept)
        .scalar_subquery()
    )
    db.execute(delete(events).where(events.c.host == host, events.c.id <= newest_to_go))


def _upsert_host(db: Connection, row: HostRow) -> None:
    values = {
        **asdict(row),
        "facts": row.facts.to_json(),
        "state": row.state.value,
        "attempt": row.attempt or None,
    }
    found = db.execute(update(hosts).where(hosts.c.id == row.id).values(values))
    if not found.rowcount:
        db.execute(insert(hosts).values(values))


def _host(row: Mapping[Any, Any]) -> HostRow:
    return HostRow(
        **{
            **row,
            "facts": Facts.from_json(row["facts"]),
            "state": State(row["state"]),
            "attempt": row["attempt"] or "",
        }
    )


def _attempt(row: Mapping[Any, Any]) -> Attempt:
    return Attempt(**{**row, "state": State(row["state"]), "pinned": tuple(row["pinned"])})
