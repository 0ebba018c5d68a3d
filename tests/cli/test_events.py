"""``midwife events``: a timeline to read, to follow and to parse."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midwife.core.lifecycle import State
from midwife.store.store import Store

from .sites import NOW, add_host, midwife, open_store, write_site


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_site(tmp_path)


@pytest.fixture
def store(site: Path) -> Iterator[Store]:
    store = open_store(site)
    add_host(store, "esx-01", State.READY, 10)
    add_host(store, "esx-02", State.READY, 10)
    for number in range(1, 6):
        store.add_event("note", f"number {number}", host=f"esx-0{1 + number % 2}", at=NOW + number + 0.25)
    store.add_event("reloaded", "2 hosts, 0 rules", data={"by": "SIGHUP"}, at=NOW + 9)
    yield store
    store.close()


def test_all_hosts_oldest_first(site: Path, store: Store) -> None:
    lines = midwife("events", "--site", site).stdout.splitlines()
    assert [re.sub(r"^[-0-9]+ [:0-9]+\.(\d{3})  ", r"\1 ", line) for line in lines] == [
        "250 esx-02             note          number 1",
        "250 esx-01             note          number 2",
        "250 esx-02             note          number 3",
        "250 esx-01             note          number 4",
        "250 esx-02             note          number 5",
        "000 -                  reloaded      2 hosts, 0 rules",
    ]


def test_one_host_and_only_the_last(site: Path, store: Store) -> None:
    lines = midwife("events", "esx-02", "-n", "2", "--site", site).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["3", "5"]
    assert "esx-02" not in lines[0], "who was asked for is known"
    assert midwife("events", "-n", "0", "--site", site).stdout == ""


def test_json_is_one_object_a_line(site: Path, store: Store) -> None:
    lines = midwife("events", "-o", "json", "--site", site).stdout.splitlines()
    last = json.loads(lines[-1])
    assert (last["kind"], last["data"], last["at"], last["host"]) == (
        "reloaded",
        {"by": "SIGHUP"},
        NOW + 9,
        "",
    )
    assert last["id"] == 6


def test_no_such_host(site: Path, store: Store) -> None:
    result = midwife("events", "esx-99", "--site", site)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no such host: esx-99; midwife status shows all of them\n"


def test_nothing_yet(site: Path) -> None:
    result = midwife("events", "--site", site)
    assert result.exit_code == 1
    assert "nothing was observed yet" in result.stderr


def test_what_a_host_says_does_not_reach_the_terminal(site: Path, store: Store) -> None:
    store.add_event("callback", "called back: ESXi\x1b[2J\n2026-01-01 forged line", host="esx-01")
    lines = midwife("events", "esx-01", "--site", site).stdout.splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("called back: ESXi [2J 2026-01-01 forged line")


@pytest.mark.parametrize("last", ["200", "0"])
def test_following_shows_what_happens_from_now_on(site: Path, store: Store, last: str) -> None:
    words = [sys.executable, "-m", "midwife", "events", "esx-01", "-f", "-n", last, "--site", str(site)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        try:
            if last == "200":
                assert [child.stdout.readline().split()[-1] for _ in range(2)] == ["2", "4"]
            else:
                # It shows nothing old, so nothing tells that it looks already: events come until it does.
                started = iter(range(1000))
                tell_until_heard(store, child, started)
                return
            store.add_event("note", "of another", host="esx-02")
            store.add_event("booted", "all files", host="esx-01")
            assert child.stdout.readline().split()[2:] == ["booted", "all", "files"]
        finally:
            child.send_signal(2)
    assert child.returncode == 0


def tell_until_heard(store: Store, child: "subprocess.Popen[str]", numbers: Iterator[int]) -> None:
    import select

    assert child.stdout
    for number in numbers:
        store.add_event("note", f"new {number}", host="esx-01")
        if select.select([child.stdout], [], [], 0.1)[0]:
            break
    assert "new" in child.stdout.readline(), "the old ones were not asked for"
