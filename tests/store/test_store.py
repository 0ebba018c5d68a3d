"""Observed state: what was told is on disk, whoever writes and whatever happens."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from midwife.core.facts import Facts, Firmware
from midwife.core.lifecycle import State
from midwife.store.records import Attempt, HostRow, RunRow
from midwife.store.store import ATTEMPTS_KEPT, EVENTS_KEPT, STRANGER_EVENTS_KEPT, Store

MAC = "52:54:00:00:00:01"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "m.db")
    yield store
    store.close()


def host(name: str, **changes: Any) -> HostRow:
    facts = Facts(macs=(MAC,), vendor="Dell Inc.", firmware=Firmware.EFI)
    return replace(HostRow(name, True, facts, State.ARMED, 1.0, "", "lab", ""), **changes)


def attempt(name: str, of: str, started: float = 1.0, **changes: Any) -> Attempt:
    made = Attempt(name, of, State.LOADING, started, started, files={"b.b00": 10}, pinned=("SHA256:x",))
    return replace(made, **changes)


def run(name: str, of: str, **changes: Any) -> RunRow:
    made = RunRow(name, of, name, {"steps": []}, {"address": "192.0.2.7"}, "running", 0, "first", {}, 1.0)
    return replace(made, **changes)


def test_what_is_written_is_read_again(store: Store) -> None:
    row, trip = host("esx-01", attempt="a1"), attempt("a1", "esx-01", sent={"b.b00": 4}, deadline=9.0)
    store.save_attempt(trip, row)
    assert (store.host("esx-01"), store.attempt("a1")) == (row, trip)
    assert store.add_run(run("a1", "esx-01"))
    store.update_run("a1", step=3, memory={"boot-id": "x"})
    assert store.run("a1") == run("a1", "esx-01", step=3, memory={"boot-id": "x"})
    assert store.host("nobody") is None
    assert store.attempt("a2") is None
    assert store.run("a2") is None


def test_a_second_run_of_an_attempt_is_not_added(store: Store) -> None:
    store.save_attempt(attempt("a1", "esx-01"), host("esx-01"))
    assert store.add_run(run("a1", "esx-01"))
    assert not store.add_run(replace(run("a1", "esx-01"), id="other"))
    assert [row.id for row in store.unfinished_runs()] == ["a1"]


def test_a_timeline_in_order_and_of_one_host(store: Store) -> None:
    store.save_host(host("a"), host("b"))
    for name in ("a", "b", "a", ""):
        store.add_event("note", f"of {name}", host=name, data={"n": 1}, at=5.0)
    assert [event.text for event in store.events()] == ["of a", "of b", "of a", "of "]
    first, second = store.events("a")
    assert [event.text for event in store.events("a", after=first.id)] == [second.text]
    found = store.host("b")
    assert found
    assert found.note == "of b"


def test_a_stranger_that_gets_a_name_keeps_its_history(store: Store) -> None:
    store.save_attempt(attempt("a1", MAC), host(MAC, known=False, attempt="a1"))
    store.add_run(run("a1", MAC))
    store.add_event("boot", "first seen", host=MAC, attempt="a1")
    assert store.strangers() == 1
    store.rename_host(MAC, "esx-01")
    assert [row.id for row in store.hosts()] == ["esx-01"]
    assert [event.text for event in store.events("esx-01")] == ["first seen"]
    assert [of.host for of in (store.attempt("a1"), store.run("a1")) if of] == ["esx-01", "esx-01"]


@pytest.mark.parametrize("own", ["", "own"])
def test_a_stranger_that_was_a_known_host_all_along(store: Store, own: str) -> None:
    """The host file gets a second MAC address, under which the machine has just booted."""
    store.save_host(host("esx-01", attempt=own))
    if own:
        store.save_attempt(attempt(own, "esx-01"))
    store.save_attempt(attempt("a1", MAC), host(MAC, known=False, attempt="a1", state=State.LOADING))
    store.rename_host(MAC, "esx-01")
    (row,) = store.hosts()
    assert row.known
    assert (row.attempt, row.state) == ((own, State.ARMED) if own else ("a1", State.LOADING))
    kept = store.attempt("a1")
    assert kept
    assert kept.host == "esx-01"


def test_a_host_that_asks_for_ever_does_not_fill_the_disk(store: Store) -> None:
    store.save_host(host("esx-01"), host(MAC, known=False))
    for number in range(ATTEMPTS_KEPT + 5):
        store.save_attempt(attempt(f"a{number}", "esx-01", started=float(number)))
        store.add_run(run(f"a{number}", "esx-01"))
    assert store.attempt("a4") is None
    assert store.run("a4") is None
    assert store.attempt("a5")
    assert store.attempt(f"a{ATTEMPTS_KEPT + 4}")
    for number in range(STRANGER_EVENTS_KEPT + 5):
        store.add_event("note", str(number), host=MAC)
        store.add_event("note", str(number), host="esx-01")
    kept = [event.text for event in store.events(MAC)]
    assert (kept[0], len(kept)) == ("5", STRANGER_EVENTS_KEPT), "the oldest give way"
    assert len(list(store.events("esx-01"))) == STRANGER_EVENTS_KEPT + 5 < EVENTS_KEPT


def test_threads_write_at_once_and_nothing_is_lost(store: Store) -> None:
    """Runs write their steps while the event loop writes what hosts do."""
    store.save_host(*(host(f"h{n}") for n in range(4)))
    errors: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for number in range(25):
                store.add_event("note", str(number), host=name)
                store.save_attempt(attempt(f"{name}-{number % 3}", name, sent={"b.b00": number}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"h{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    for n in range(4):
        assert [event.text for event in store.events(f"h{n}")] == [str(number) for number in range(25)]


WRITER = """
import sys
from pathlib import Path
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.records import Attempt, HostRow
from midwife.store.store import Store

store = Store.open(Path(sys.argv[1]))
for number in range(100000):
    trip = Attempt("a1", "esx-01", State.LOADING, 1.0, 1.0, files={"b": 10**6}, sent={"b": number})
    row = HostRow("esx-01", True, Facts(serial=str(number)), State.LOADING, 1.0, "a1", "lab", "")
    store.save_attempt(trip, row)
    store.add_event("note", str(number), host="esx-01", attempt="a1")
    print(number, flush=True)
"""


def test_kill_9_loses_nothing_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        for line in writer.stdout:
            if int(line) == 40:
                os.kill(writer.pid, signal.SIGKILL)  # in the middle of whatever it does next
                break
        told = max([40, *(int(line) for line in writer.stdout.read().split())])
    assert writer.returncode == -signal.SIGKILL

    # >> status looks, with the service still down
    seen = subprocess.run(
        [sys.executable, "-m", "midwife", "status", "-o", "json"],
        env={**os.environ, "MIDWIFE_SITE": str(site_over(tmp_path, path))},
        capture_output=True,
        text=True,
    )
    (shown,) = json.loads(seen.stdout)
    store = Store.open(path)
    trip, row = store.attempt("a1"), store.host("esx-01")
    events = [int(event.text) for event in store.events("esx-01")]
    store.close()
    assert trip
    assert row
    # Host and attempt are one transaction: they tell of the same moment, at or after what was told.
    assert trip.sent["b"] == int(row.facts.serial) == shown["bytes_done"] >= told
    assert events == list(range(len(events)))
    assert len(events) >= told + 1
    assert shown["state"] == "loading"


def site_over(tmp_path: Path, database: Path) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    (site / "midwife.yaml").write_text(f"server: {{address: 192.0.2.2, data: {database.parent / 'data'}}}\n")
    data = database.parent / "data"
    data.mkdir()
    for file in database.parent.glob("m.db*"):
        (data / file.name.replace("m.db", "midwife.db")).symlink_to(file)
    return site
