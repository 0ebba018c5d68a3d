"""Reads observed state straight from the database file, for commands that must be quick.

Read-only, with the standard library alone: importing SQLAlchemy and pydantic would take longer than the whole
command may. The tables are described in ``midwife.store.tables``.
"""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midwife.cli.common import fail

__all__ = ["HostStatus", "connect", "data_dir", "read_hosts", "service_pid"]


_QUERY = """
SELECT h.id, h.known, h.state, h.since, h.image, h.note, h.attempt,
       a.started, a.ended, a.deadline, a.files, a.sent, a.error,
       r.step, json_array_length(r.plan, '$.steps') AS steps, r.label,
       r.started AS run_started, r.ended AS run_ended
FROM hosts h
LEFT JOIN attempts a ON a.id = h.attempt
LEFT JOIN runs r ON r.attempt = h.attempt
ORDER BY h.known DESC, h.id
"""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host, as ``midwife status`` shows it. Times are seconds since the epoch."""

    host: str
    known: bool
    state: str
    since: float
    image: str
    note: str
    attempt: str
    started: float | None
    ended: float | None
    deadline: float | None
    files: int
    files_done: int
    bytes: int
    bytes_done: int
    step: int | None
    steps: int | None
    label: str
    run_seconds: float | None
    error: str


def data_dir(site: Path) -> Path:
    """The data directory that ``midwife.yaml`` names. Ends the command if there is no such file."""
    import yaml

    path = site / "midwife.yaml"
    try:
        main = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes text only
    except OSError as error:
        fail(
            f"{path}: {error.strerror}. Name a site directory with --site or MIDWIFE_SITE, "
            "or make one: midwife init DIRECTORY"
        )
    except yaml.YAMLError:
        fail(f"{path} cannot be read as YAML; midwife check {site} says where")
    server = main.get("server") if isinstance(main, dict) else None
    named = server.get("data") if isinstance(server, dict) else None
    return site / (named if isinstance(named, str) and named else "data")


def connect(site: Path) -> sqlite3.Connection:
    """The database, read-only. Ends the command if there is none yet."""
    path = data_dir(site) / "midwife.db"
    if not path.exists():
        fail(f"nothing was observed yet ({path} is not there): start the service with midwife serve {site}")
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        db.execute(f"{_QUERY} LIMIT 1")
    except sqlite3.Error as error:
        fail(
            f"{path}: {error}. Start the service: it mends an old file, and says what is wrong with any other"
        )
    db.row_factory = sqlite3.Row
    return db


def service_pid(site: Path) -> int | None:
    """The process id of the running service, None if none runs (its lock is free)."""
    try:
        fd = os.open(data_dir(site) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None


def read_hosts(db: sqlite3.Connection, wanted: tuple[str, ...] = ()) -> Iterator[HostStatus]:
    """Every host, or the wanted ones, known ones first."""
    images: dict[str, dict[str, Any]] = {}  # hosts that boot the same image have the same long list of files
    for row in db.execute(_QUERY):
        if wanted and row["id"] not in wanted:
            continue
        listed = row["files"] or "{}"
        if listed not in images:
            images[listed] = json.loads(listed)
        files = images[listed]
        sent: dict[str, Any] = json.loads(row["sent"] or "{}")
        began, ended = row["run_started"], row["run_ended"]
        yield HostStatus(
            host=row["id"],
            known=bool(row["known"]),
            state=row["state"],
            since=row["since"],
            image=row["image"],
            note=row["note"],
            attempt=row["attempt"] or "",
            started=row["started"],
            ended=row["ended"],
            deadline=row["deadline"],
            files=len(files),
            files_done=sum(sent.get(name, 0) >= size for name, size in files.items()),
            bytes=sum(files.values()),
            bytes_done=sum(sent.values()),
            step=row["step"],
            steps=row["steps"],
            label=row["label"] or "",
            run_seconds=ended - began if began and ended else None,
            error=row["error"] or "",
        )
