"""Boot attempts on a clock that stands still: whose is a boot, when is it over, what a hostile network can do."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from midwife.core.facts import Facts
from midwife.core.lifecycle import State, Trigger
from midwife.core.token import attempt_of, verify
from midwife.serve import hostrows
from midwife.serve.control.enrolment import enroll
from midwife.serve.hostrows import TooManyStrangersError
from midwife.site.model import Host, Site
from midwife.store.records import RunRow

from .deciding import HOSTKEY, MACS, SECRET, World, make_site

FIRST, OTHER = "192.0.2.11", "192.0.2.66"
NOBODY = "02:00:00:00:00:99"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(make_site(tmp_path))
    yield world
    world.close()


def call(world: World, host: str = "esx-01", keys: tuple[str, ...] = (HOSTKEY,)) -> bool:
    return world.attempts.callback(host, keys, Facts(version="ESXi 8"), "called back", FIRST)


def customizing(world: World) -> str:
    """A host in the middle of its customization; the id of its attempt."""
    grant = world.grant()
    world.load(grant.attempt)
    call(world)
    world.attempts.move("esx-01", Trigger.PUSH, "customizing", "1 step")
    assert world.state() == "customizing"
    return grant.attempt


# one boot


def test_a_boot_from_the_first_packet_to_ready(world: World) -> None:
    grant = world.grant()
    assert world.state() == "loading"
    world.load(grant.attempt)
    assert world.state() == "booted"
    assert call(world)
    world.attempts.move("esx-01", Trigger.PUSH, "customizing", "1 step")
    world.attempts.move("esx-01", Trigger.DONE, "ready", "customized")
    assert world.kinds() == ["boot", "config", "loading", "booted", "callback", "customizing", "ready"]
    trip = world.attempts.find(grant.attempt)
    assert trip
    assert (trip.state, trip.ended, trip.pinned) == (State.READY, world.clock(), (HOSTKEY,))


def test_mboot_fetches_its_configuration_twice(world: World) -> None:
    first, second = world.grant(), world.grant()
    assert first == second
    assert not first.flagged
    assert verify(SECRET, first.token, first.attempt, FIRST)
    assert attempt_of(first.token) == first.attempt
    assert world.kinds() == ["boot", "config"]


def test_loaders_that_chain_to_each_other_are_one_boot(world: World) -> None:
    image = world.image("8.0U3")
    began = world.attempts.begin(*world.answer("esx-02"), image, FIRST, "ipxe over http")
    assert world.attempts.begin(*world.answer("esx-02"), image, FIRST, "pxelinux over tftp") == began
    assert world.grant("esx-02", image="8.0U3").attempt == began
    assert world.kinds("esx-02") == ["boot", "config"]


def test_after_its_first_file_whoever_asks_again_was_reset(world: World) -> None:
    first = world.grant()
    world.load(first.attempt, only=1)
    second = world.grant()
    assert second.attempt != first.attempt
    assert second.token != first.token
    ended = world.attempts.find(first.attempt)
    assert ended
    assert (ended.state, ended.error) == (State.FAILED, "the host started over")
    assert world.over == [(first.attempt, "the host started over")]
    assert "started over while loading" in world.texts()
    assert world.state() == "loading"


def test_a_ready_host_that_boots_again_is_no_reset(world: World) -> None:
    first = world.grant()
    world.load(first.attempt)
    call(world)
    world.attempts.move("esx-01", Trigger.DONE, "ready", "nothing to push")
    second = world.grant(address=OTHER)
    assert second.attempt != first.attempt
    assert not second.flagged
    assert world.over == []
    kept = world.attempts.find(first.attempt)
    assert kept
    assert kept.state is State.READY


def test_a_reboot_step_keeps_the_attempt(world: World) -> None:
    attempt = customizing(world)
    world.attempts.rebooting(attempt, on=True)
    again = world.grant()
    assert again.attempt == attempt
    assert not again.flagged
    assert not call(world), "it was called back before: nothing starts twice"
    world.attempts.rebooting(attempt, on=False)
    assert world.grant().attempt != attempt, "and a reboot that nobody asked for is one"
    assert world.over == [(attempt, "the host started over")]


def test_the_image_changed_before_the_first_file(world: World) -> None:
    """>> iPXE asks; a person edits the host file; mboot asks."""
    began = world.attempts.begin(*world.answer(), world.image("8.0U3"), FIRST, "ipxe over http")
    assert world.grant().attempt == began
    trip = world.attempts.find(began)
    assert trip
    assert trip.answer["image"] == "rescue"
    assert set(trip.files) == {"vmlinuz", "initrd.img"}


# somebody else asks


def test_another_address_is_flagged_and_its_token_is_worth_nothing(world: World) -> None:
    good = world.grant()
    bad = world.grant(address=OTHER)
    assert bad.flagged
    assert bad.attempt == good.attempt
    trip = world.attempts.find(good.attempt)
    assert trip
    assert trip.address == FIRST
    assert not verify(SECRET, bad.token, trip.id, trip.address)
    assert f"fetched from {OTHER} while {FIRST} is booting" in world.texts()
    assert world.grant() == good, "the owner is not disturbed"


def test_a_quiet_attempt_that_loaded_nothing_may_be_taken_over(world: World) -> None:
    """The firmware got one lease, its next stage another, and the first never came back."""
    first = world.grant()
    world.clock.forward(59)
    assert world.grant(address=OTHER).flagged
    world.clock.forward(2)
    second = world.grant(address=OTHER)
    assert not second.flagged
    assert second.attempt != first.attempt, "the old token must die with the old owner"


def test_an_attempt_that_loads_is_not_taken_over_however_quiet(world: World) -> None:
    first = world.grant()
    world.load(first.attempt, only=1)
    world.clock.forward(600)
    assert world.grant(address=OTHER).flagged


@pytest.mark.parametrize("how", ["begin", "grant"])
def test_nobody_else_resets_a_host_that_is_being_customized(world: World, how: str) -> None:
    attempt = customizing(world)
    if how == "begin":
        image = world.image("8.0U3")
        assert world.attempts.begin(*world.answer(), image, OTHER, "ipxe over http") == attempt
    else:
        assert world.grant(address=OTHER).flagged
    assert world.state() == "customizing"
    assert world.over == []
    assert "flagged" in world.kinds()
    # >> the machine itself is reset, though
    assert world.grant().attempt != attempt
    assert world.over == [(attempt, "the host started over")]


def test_nobody_else_resets_a_host_that_a_person_pushes_to(world: World) -> None:
    answer, facts = world.answer()
    attempt = world.attempts.vouch(answer, facts, (HOSTKEY,), FIRST)
    assert world.state() == "called-back"
    assert world.grant(address=OTHER).flagged
    assert world.attempts.begin(answer, facts, world.image("8.0U3"), OTHER, "pxelinux") == attempt.id
    assert world.over == []
    assert world.grant(address=FIRST).attempt != attempt.id


def test_the_keys_of_the_first_call_stay(world: World) -> None:
    """Whoever reads the token off the wire can neither change them later nor do anything by calling again."""
    attempt = customizing(world)
    stolen = "SHA256:" + "B" * 43
    assert not call(world, keys=(stolen,))
    trip = world.attempts.find(attempt)
    assert trip
    assert trip.pinned == (HOSTKEY,)
    assert "now names other SSH host keys: they are not taken" in world.texts()


# progress


def test_only_the_image_s_own_files_count(world: World) -> None:
    attempt = world.grant().attempt
    for _ in range(3):
        world.attempts.served(attempt, "snponly.efi", 500, complete=True, proto="tftp", client=FIRST)
    trip = world.attempts.find(attempt)
    assert trip
    assert trip.sent == {}
    assert world.kinds().count("loader") == 1
    world.attempts.served(attempt, "vmlinuz", 10**9, complete=False, proto="http", client=FIRST)
    trip = world.attempts.find(attempt)
    assert trip
    assert trip.sent == {"vmlinuz": len(b"a kernel")}, "a lying report does not make 200 %"


def test_reports_for_attempts_that_are_gone_are_ignored(world: World) -> None:
    old = world.grant().attempt
    world.load(old, only=1)
    new = world.grant().attempt
    before = world.kinds()
    world.load(old)
    world.load("deadbeef")
    assert world.kinds() == before
    trip = world.attempts.find(new)
    assert trip
    assert trip.sent == {}


def test_progress_is_on_disk_after_the_next_tick(world: World) -> None:
    attempt = world.grant().attempt
    world.load(attempt, only=1)
    stored = world.store.attempt(attempt)
    assert stored
    assert stored.sent == {}
    world.attempts.tick()
    stored = world.store.attempt(attempt)
    assert stored
    assert stored.sent == {"vmlinuz": 8}


# deadlines


@pytest.mark.parametrize(
    ("until", "seconds", "says"),
    [
        ("loading", 1800, "stopped fetching files: look at the host's console"),
        ("half", 1800, "1 of 2 files, then it stopped fetching files"),
        ("booted", 600, "no callback: every file was served, but nobody connected to PBHOST"),
        ("called-back", 300, "called back, but the customization never started"),
        ("customizing", 3600, "the customization did not end in time"),
    ],
)
def test_a_state_that_lasts_too_long_says_where_it_hung(
    world: World, until: str, seconds: float, says: str
) -> None:
    attempt = world.grant().attempt
    if until == "half":
        world.load(attempt, only=1)
    elif until != "loading":
        world.load(attempt)
    if until in ("called-back", "customizing"):
        call(world)
    if until == "customizing":
        world.attempts.move("esx-01", Trigger.PUSH, "customizing", "1 step")
    world.clock.forward(seconds)
    world.attempts.tick()
    assert world.state() == ("loading" if until == "half" else until), "up to the deadline all is well"
    world.clock.forward(1)
    world.attempts.tick()
    trip = world.attempts.find(attempt)
    assert trip
    assert (world.state(), trip.state) == ("failed", State.FAILED)
    assert trip.error.startswith(says)
    assert world.over == [(attempt, trip.error)], "a run that nobody waits for must end"
    world.attempts.tick()
    assert world.kinds().count("stuck") == 1


def test_a_slow_network_is_not_stuck(world: World) -> None:
    attempt = world.grant().attempt
    world.clock.forward(1790)
    world.attempts.served(attempt, "vmlinuz", 1, complete=False, proto="tftp", client=FIRST)
    world.clock.forward(30)
    world.attempts.tick()
    assert world.state() == "loading"
    world.clock.forward(31)
    world.attempts.tick()
    assert world.state() == "failed"


def test_asking_again_and_again_is_no_progress(world: World) -> None:
    """An iPXE that cannot load its kernel begins anew every ten seconds, for ever."""
    for _ in range(181):
        world.grant()
        world.clock.forward(10)
        world.attempts.tick()
    assert "stopped fetching files" in world.texts()


def test_a_callback_that_comes_after_all(world: World) -> None:
    attempt = world.grant().attempt
    world.load(attempt)
    world.clock.forward(601)
    world.attempts.tick()
    assert world.state() == "failed"
    world.clock.forward(3600)
    world.attempts.tick()  # it is out of memory now
    assert call(world)
    trip = world.attempts.find(attempt)
    assert trip
    assert (world.state(), trip.state, trip.error, trip.ended) == ("called-back", State.CALLED_BACK, "", None)


def test_a_failed_customization_is_not_begun_again_by_a_call(world: World) -> None:
    attempt = customizing(world)
    world.store.add_run(RunRow(attempt, "esx-01", attempt, {}, {}, "failed", 0, "", {}, 1.0))
    world.attempts.move("esx-01", Trigger.FAIL, "failed", "step 1: no")
    assert not call(world)
    assert world.state() == "failed"


def test_a_run_that_ends_late_does_not_move_the_next_attempt(world: World) -> None:
    old = customizing(world)
    new = customizing(world)
    assert not world.attempts.move("esx-01", Trigger.DONE, "ready", "of old", attempt=old)
    assert world.state() == "customizing"
    assert world.attempts.move("esx-01", Trigger.DONE, "ready", "of new", attempt=new)
    assert world.state() == "ready"


def test_a_trigger_that_means_nothing_is_refused_and_logged(world: World) -> None:
    world.grant()
    with capture_logs() as logs:
        assert not world.attempts.move("esx-01", Trigger.DONE, "ready", "too early")
    assert world.state() == "loading"
    assert logs[0]["reason"].startswith("done means nothing while loading")
    assert not world.attempts.move("nobody", Trigger.DONE, "ready", "")


# a restart


def test_after_a_restart_everything_goes_on(world: World) -> None:
    grant = world.grant()
    world.load(grant.attempt, only=1)
    world.attempts.tick()
    world.start()
    assert world.attempts.of_address(FIRST) == world.store.attempt(grant.attempt)
    world.load(grant.attempt)
    assert world.state() == "booted"
    assert world.grant(address=OTHER).flagged
    world.clock.forward(601)
    world.attempts.tick()
    assert world.state() == "failed"


def test_only_what_is_under_way_is_kept_in_memory(world: World) -> None:
    ready = world.grant().attempt
    world.load(ready)
    call(world)
    world.attempts.move("esx-01", Trigger.DONE, "ready", "nothing to push")
    world.attempts.tick()
    assert world.attempts.of_address(FIRST), "its last reports may come late"
    world.clock.forward(601)
    world.attempts.tick()
    assert world.attempts.of_address(FIRST) is None, "by now the lease may be another host's"
    found = world.attempts.find(ready)
    assert found
    assert found.state is State.READY


# local


def test_told_to_boot_from_its_own_disk(world: World) -> None:
    world.attempts.local(*world.answer("disk-03"), "ipxe over http")
    since = world.store.host("disk-03")
    assert since
    assert (since.state, since.attempt) == (State.LOCAL, "")
    world.clock.forward(5)
    world.attempts.local(*world.answer("disk-03"), "ipxe over http")
    assert world.store.host("disk-03") == since, "its age is that of the state"
    assert world.kinds("disk-03") == ["local"]


def test_local_does_not_end_a_boot_that_is_under_way(world: World) -> None:
    attempt = customizing(world)
    world.attempts.local(*world.answer(), "ipxe over http")
    assert world.state() == "customizing"
    trip = world.attempts.find(attempt)
    assert trip
    assert trip.state is State.CUSTOMIZING


# strangers


def test_a_stranger_is_shown_and_armed_when_a_rule_finds_it(world: World) -> None:
    answer, facts = world.answer(NOBODY)
    world.attempts.seen(answer, facts, "dhcp", "DISCOVER", {})
    assert world.state(NOBODY) == "discovered"
    armed = replace(answer, action=world.answer()[0].action, image="rescue")
    world.attempts.seen(armed, facts, "dhcp", "DISCOVER", {})
    row = world.store.host(NOBODY)
    assert row
    assert (row.state, row.image, row.known) == (State.ARMED, "rescue", False)


def test_a_stranger_that_gets_a_host_file(world: World) -> None:
    answer, facts = world.answer(NOBODY)
    attempt = world.attempts.grant(answer, facts, world.image(), FIRST, "ipxe over http").attempt
    named = with_hosts(world.site, *world.site.hosts, Host(name="new", macs=(NOBODY,), image="rescue"))
    reload(world, named)
    assert world.store.host(NOBODY) is None
    assert "boot" in world.kinds("new")
    world.load(attempt)
    assert world.state("new") == "booted"
    assert world.attempts.callback("new", (), Facts(), "called back", FIRST)


def test_a_known_host_gets_a_second_mac_address_while_it_boots(world: World) -> None:
    own = world.grant().attempt
    answer, facts = world.answer(NOBODY)
    other = world.attempts.grant(answer, facts, world.image(), OTHER, "ipxe over http").attempt
    twin = replace_host(world.site, "esx-01", macs=(MACS["esx-01"], NOBODY))
    reload(world, twin)
    present = world.attempts.current("esx-01")
    assert present
    assert present.id == own, "its own boot goes before that of the stranger it was"
    world.load(other)
    assert world.state() == "loading"


def test_a_host_that_loses_its_file_is_a_stranger_again(world: World) -> None:
    enroll(world.site, world.store, world.attempts, world.resolver.decide)
    assert {row.id: row.state.value for row in world.store.hosts()} == {
        "byuuid": "armed", "disk-03": "local", "esx-01": "armed", "esx-02": "armed"
    }  # fmt: skip
    world.grant()
    reload(world, with_hosts(world.site, world.site.hosts[1]))
    left = {row.id: (row.known, row.state.value) for row in world.store.hosts()}
    assert left == {"esx-02": (True, "armed"), MACS["esx-01"]: (False, "loading")}
    assert "boot" in world.kinds(MACS["esx-01"])
    # >> and its file comes back under another name
    reload(world, with_hosts(world.site, Host(name="esx-99", macs=(MACS["esx-01"],), image="rescue")))
    assert "boot" in world.kinds("esx-99")
    assert world.state("esx-99") == "loading"


def reload(world: World, site: Site) -> None:
    world.site = site
    known = world.attempts
    world.start()
    world.attempts = known  # a reload keeps what is under way
    enroll(site, world.store, known, world.resolver.decide)


def with_hosts(site: Site, *hosts: Host) -> Site:
    return site.model_copy(update={"hosts": hosts})


def replace_host(site: Site, name: str, **changes: object) -> Site:
    hosts = (host.model_copy(update=changes) if host.name == name else host for host in site.hosts)
    return with_hosts(site, *hosts)


# floods


def test_made_up_mac_addresses_fill_neither_memory_nor_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostrows, "MAX_STRANGERS", 20)
    with capture_logs() as logs:
        for number in range(100):
            answer, facts = world.answer(f"02:00:00:00:00:{number:02x}")
            world.attempts.seen(answer, facts, "dhcp", "DISCOVER", {})  # never raises: DHCP must live
            world.attempts.local(answer, facts, "ipxe over http")
    assert world.store.strangers() == 20
    assert len(list(world.store.events())) <= 40
    warnings = [log for log in logs if log["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "somebody may be making up MAC addresses" in warnings[0]["reason"]
    with pytest.raises(TooManyStrangersError, match="02:00:00:00:01:00 is not recorded"):
        world.attempts.grant(*world.answer("02:00:00:00:01:00"), world.image(), FIRST, "ipxe over http")
    assert world.grant().attempt, "a host of the site boots whatever strangers do"
    world.start()
    with pytest.raises(TooManyStrangersError):
        world.attempts.begin(*world.answer("02:00:00:00:01:00"), world.image(), FIRST, "ipxe over http")


def asks_for_nothing(world: World) -> None:
    world.attempts.seen(*world.answer(NOBODY), "no-image", "ipxe asked", {})


def boots_from_disk(world: World) -> None:
    world.attempts.local(*world.answer("disk-03"), "ipxe over http")


def fetches_again(world: World) -> None:
    world.grant()


def fetches_from_elsewhere(world: World) -> None:
    world.grant(address=OTHER)


def calls_again(world: World) -> None:
    call(world)


@pytest.mark.parametrize(
    "deed", [asks_for_nothing, boots_from_disk, fetches_again, fetches_from_elsewhere, calls_again]
)
def test_a_machine_that_asks_1000_times_does_not_write_1000_lines(
    world: World, deed: Callable[[World], None]
) -> None:
    world.grant()
    for _ in range(1000):
        deed(world)
    assert len(list(world.store.events())) <= 6
    world.clock.forward(601)
    deed(world)
    assert len(list(world.store.events())) <= 9, "it is told again, from time to time"


def test_texts_that_differ_every_time_are_bounded_too(world: World) -> None:
    """Source addresses and names cost nothing either."""
    world.grant()
    for number in range(300):
        world.grant(address=f"198.51.100.{number % 250}")
        world.attempts.event("esx-01", "callback-refused", f"from 203.0.113.{number}")
        world.attempts.event("", "callback-refused", f"from 203.0.113.{number}")
    kinds = world.kinds()
    assert kinds.count("flagged") == kinds.count("callback-refused") == 31
    assert world.kinds("").count("callback-refused") == 31
    assert "more are left out for a while" in world.texts()
    # >> what the lifecycle does is told all the same
    world.load(world.grant().attempt)
    assert world.kinds()[-1] == "booted"


def test_resets_without_end_leave_a_bounded_history(world: World) -> None:
    for _ in range(60):
        world.load(world.grant().attempt, only=1)
    with closing(sqlite3.connect(world.site.data_dir / "midwife.db")) as db:
        assert db.execute("SELECT count(*) FROM attempts").fetchone() == (20,)
    assert len(world.kinds()) <= 31 * 4
    assert len(world.attempts._live) == len(world.attempts._by_attempt) == 1
