"""Boots do not wait for the disk: what cannot be written is seen at once and written later, in order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.patient import PatientStore
from midwife.store.records import Attempt, HostRow
from midwife.store.store import Store

ESX = HostRow("esx-01", True, Facts(), State.ARMED, 1.0, "", "lab", "")
TRIP = Attempt("k3v9", "esx-01", State.LOADING, 2.0, 2.0)


class Disk:
    """SQLite's own limit of pages makes the file system full, and its error is the real one."""

    def __init__(self, path: Path) -> None:
        self.plain = Store.open(path)
        self.store = PatientStore.over(self.plain)
        self._full = False
        event.listen(self.plain._engine, "begin", self._limit)

    def _limit(self, connection: object) -> None:
        pages = 1 if self._full else 1 << 30
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    def fill(self) -> None:
        """Not one more page."""
        self._full = True
        with pytest.raises(OperationalError, match="full"):
            self._write_on()

    def _write_on(self) -> None:
        while True:  # the pages that are there already have some room
            self.plain.add_event("filler", "x" * 500)

    def make_room(self) -> None:
        self._full = False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "midwife.db")
    yield disk
    disk.plain.close()


def told(store: Store) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in store.events("esx-01")]


def test_while_there_is_room_it_is_a_store_like_any_other(disk: Disk) -> None:
    disk.store.save_host(ESX)
    disk.store.add_event("boot", "first", host="esx-01")
    assert disk.plain.host("esx-01") is not None
    assert told(disk.plain) == [("boot", "first")]


def test_what_happens_on_a_full_disk_is_seen_now_and_written_later(disk: Disk) -> None:
    disk.store.save_host(ESX)
    disk.fill()
    disk.store.add_event("boot", "x" * 2000, host="esx-01")
    booted = HostRow("esx-01", True, Facts(), State.BOOTED, 3.0, "k3v9", "lab", "")
    disk.store.save_attempt(TRIP, booted)
    stranger = HostRow("52:54:00:00:00:01", False, Facts(), State.DISCOVERED, 3.0, "", "", "")
    disk.store.save_host(stranger)
    disk.store.add_event("booted", "all files served", host="esx-01", attempt="k3v9", at=5.0)

    assert disk.store.host("esx-01") == booted
    assert disk.store.attempt("k3v9") == TRIP
    assert disk.store.hosts() == [stranger, booted]
    assert disk.plain.attempt("k3v9") is None

    disk.store.catch_up()
    assert told(disk.plain) == [], "still no room for what is long, and nothing overtakes it"
    disk.make_room()
    disk.store.catch_up()
    assert disk.plain.attempt("k3v9") == TRIP
    row = disk.plain.host("esx-01")
    assert row is not None
    assert (row.state, row.note) == (State.BOOTED, "all files served")
    assert disk.plain.host("52:54:00:00:00:01") == stranger
    assert [kind for kind, _ in told(disk.plain)] == ["boot", "booted"]
    assert [one.at for one in disk.plain.events("esx-01")][-1] == 5.0, (
        "when it happened, not when it was written"
    )
    disk.store.add_event("callback", "afterwards", host="esx-01")
    assert told(disk.plain)[-1] == ("callback", "afterwards")


def test_the_newest_value_of_a_row_is_the_one_that_is_written(disk: Disk) -> None:
    disk.store.save_host(ESX)
    disk.fill()
    disk.store.add_event("boot", "x" * 2000, host="esx-01")
    for state in (State.LOADING, State.BOOTED, State.CALLED_BACK):
        disk.store.save_host(HostRow("esx-01", True, Facts(), state, 3.0, "", "lab", ""))
    disk.make_room()
    disk.store.catch_up()
    row = disk.plain.host("esx-01")
    assert row is not None
    assert row.state is State.CALLED_BACK


def test_names_are_changed_another_time(disk: Disk) -> None:
    disk.store.save_host(ESX)
    disk.fill()
    disk.store.add_event("boot", "x" * 2000, host="esx-01")
    disk.store.rename_host("esx-01", "esx-02")
    disk.store.remove_host("esx-01")
    assert disk.store.host("esx-01") is not None


def test_what_is_kept_has_a_bound(disk: Disk) -> None:
    disk.store.save_host(ESX)
    disk.fill()
    disk.store.add_event("boot", "x" * 2000, host="esx-01")
    for number in range(6000):
        disk.store.add_event("noise", str(number))
    assert disk.store._backlog is not None
    assert len(disk.store._backlog.events) == 5000
