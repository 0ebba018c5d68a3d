"""The database file: made, migrated, newer, broken, killed."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from midwife.store import database
from midwife.store.database import REVISION, DatabaseError, open_database
from midwife.store.store import Store
from midwife.store.tables import metadata


def shape(tables: MetaData) -> dict[str, object]:
    """Everything that a revision could get wrong."""
    return {
        table.name: {
            "columns": {c.name: (str(c.type), c.nullable, c.primary_key) for c in table.columns},
            "keys": sorted(
                (f.parent.name, f.target_fullname, f.onupdate, f.ondelete) for f in table.foreign_keys
            ),
            "indexes": sorted(
                (str(i.name), [c.name for c in i.columns], bool(i.unique)) for i in table.indexes if i.name
            ),
            "unique": sorted(
                [c.name for c in constraint.columns]
                for constraint in table.constraints
                if type(constraint).__name__ == "UniqueConstraint"
            ),
        }
        for table in tables.sorted_tables
        if table.name != "alembic_version"
    }


def test_the_revisions_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "migrated.db")
    migrated = MetaData()
    migrated.reflect(engine)
    engine.dispose()
    declared_in = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    metadata.create_all(declared_in)
    declared = MetaData()
    declared.reflect(declared_in)
    declared_in.dispose()
    assert shape(migrated) == shape(declared)


def test_revision_is_that_of_the_newest_file() -> None:
    folder = Path(database.__file__).parent / "migrations" / "versions"
    newest = max(path.stem for path in folder.glob("r[0-9]*.py"))
    assert newest[1:5] == REVISION


def test_it_waits_for_the_disk_and_does_not_stop_readers(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "m.db")
    with engine.connect() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    open_database(path).dispose()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '0999'")
    db.close()
    with pytest.raises(
        DatabaseError, match=r"written by a newer midwife \(revision 0999, this one knows 0001"
    ):
        open_database(path)


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseError) as caught:
        open_database(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "moving it away and starting again is safe" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes()[:100] == content[:100], "nothing is mended behind the user's back"


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "m.db").mkdir()
    with pytest.raises(DatabaseError, match="unable to open database file"):
        open_database(tmp_path / "m.db")


def test_a_kill_during_the_first_start_leaves_nothing_half(tmp_path: Path) -> None:
    """Without a transaction around them, the tables of a half-made file would stop every later start."""
    path = tmp_path / "m.db"
    killer = (
        "import os, signal, sys\n"
        "import alembic.operations.ops\n"
        "from sqlalchemy import event, Engine\n"
        "@event.listens_for(Engine, 'before_cursor_execute')\n"
        "def die(_c, _cur, statement, *_):\n"
        "    if 'CREATE TABLE events' in statement:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "from pathlib import Path\n"
        "from midwife.store.database import open_database\n"
        "open_database(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", killer, str(path)], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    store = Store.open(path)
    store.add_event("note", "alive")
    assert [event.text for event in store.events()] == ["alive"]
    store.close()
