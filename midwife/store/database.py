"""Opens the database and brings it to the present revision.

SQLite in WAL mode with synchronous=FULL: what a caller was told is on disk. Alembic costs half a second to
import, so the revision is read with one SELECT and Alembic is only imported when the file is behind.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, inspect, text

__all__ = ["REVISION", "DatabaseError", "open_database"]

REVISION = "0001"
"""The newest revision in ``migrations/versions``."""


class DatabaseError(Exception):
    """The database cannot be used; the message says which file, why, and what to do."""


def open_database(path: Path) -> Engine:
    """An engine on the SQLite file, created and migrated as needed. Raises DatabaseError."""
    engine = create_engine(URL.create("sqlite", database=str(path)))  # a path may have a "?" in it
    event.listen(engine, "connect", _prepare)
    try:
        found = _revision(engine)
        if found != REVISION:
            _migrate(engine, found)
    except Exception as error:  # SQLAlchemy wraps what the driver raises; the text is what the user needs
        engine.dispose()
        raise DatabaseError(
            f"{path}: {_plain(error)}. It holds history only: moving it away and starting again is safe"
        ) from error
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        for pragma in ("busy_timeout=10000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")


def _revision(engine: Engine) -> str:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _migrate(engine: Engine, found: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if found > REVISION:
        raise DatabaseError(f"was written by a newer midwife (revision {found}, this one knows {REVISION})")
    with engine.begin() as connection:
        # Python's sqlite3 begins a transaction before INSERT and the like only: without this line a service that
        # is killed here leaves half of the tables, and no later start could make the others.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _plain(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
