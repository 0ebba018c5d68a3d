"""A host that cannot be given its configuration: the timeline and the status say so, whatever it was before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from midwife.core.facts import Facts
from midwife.core.lifecycle import State, Trigger
from midwife.images.boot.verify import verify_image
from midwife.serve.messages import Content, Refused

from .deciding import HOSTKEY, MACS, World, make_site

HOST, ELSEWHERE = "192.0.2.11", "192.0.2.66"
NAME = f"8.0U3/01-{MACS['esx-02'].replace(':', '-')}/boot.cfg"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(make_site(tmp_path))
    yield world
    world.close()


def break_image(world: World) -> None:
    """Bytes of a module are changed, and somebody verifies."""
    assert verify_image(world.library.images_dir, "8.0U3").problems


def note(world: World) -> str:
    row = world.store.host("esx-02")
    assert row
    return row.note


def test_a_host_that_was_ready_is_so_no_more(world: World) -> None:
    grant = world.grant("esx-02", image="8.0U3")
    world.load(grant.attempt, "8.0U3")
    world.attempts.callback("esx-02", (HOSTKEY,), Facts(), "called back", HOST)
    world.attempts.move("esx-02", Trigger.DONE, "ready", "nothing to push")
    assert world.state("esx-02") == "ready"
    break_image(world)
    assert isinstance(world.ask(NAME), Refused)
    assert world.state("esx-02") == "armed"
    assert note(world).startswith("boot.cfg over http: image 8.0U3 is out of service")
    assert world.over == [], "its run was over before"
    kept = world.attempts.find(grant.attempt)
    assert kept
    assert kept.state is State.READY


def test_a_host_that_was_reset_while_it_loaded_has_failed_with_the_reason(world: World) -> None:
    grant = world.grant("esx-02", image="8.0U3")
    world.load(grant.attempt, "8.0U3", only=1)
    break_image(world)
    for _ in range(3):  # it asks until somebody mends the image; nothing new is told
        assert isinstance(world.ask(NAME), Refused)
        assert world.state("esx-02") == "failed"
    trip = world.attempts.find(grant.attempt)
    assert trip
    assert "is out of service" in trip.error
    assert [attempt for attempt, _ in world.over] == [grant.attempt]
    assert world.kinds("esx-02").count("no-config") == 1


def test_nobody_else_can_say_so_while_it_boots(world: World) -> None:
    grant = world.grant("esx-02", image="8.0U3")
    world.load(grant.attempt, "8.0U3", only=1)
    break_image(world)
    assert isinstance(world.ask(NAME, client=ELSEWHERE), Refused)
    assert world.state("esx-02") == "loading"
    assert "no-config" in world.kinds("esx-02")


def test_a_reboot_step_goes_on_until_its_own_deadline(world: World) -> None:
    grant = world.grant("esx-02", image="8.0U3")
    world.load(grant.attempt, "8.0U3")
    world.attempts.callback("esx-02", (HOSTKEY,), Facts(), "called back", HOST)
    world.attempts.move("esx-02", Trigger.PUSH, "customizing", "1 step")
    world.attempts.rebooting(grant.attempt, True)
    break_image(world)
    assert isinstance(world.ask(NAME), Refused)
    assert world.state("esx-02") == "customizing"
    assert "is out of service" in note(world)


def test_the_image_is_put_right_and_the_host_boots(world: World, tmp_path: Path) -> None:
    break_image(world)
    assert isinstance(world.ask(NAME), Refused)
    assert world.state("esx-02") == "armed"
    make_site(tmp_path)  # every file as it was
    (world.library.images_dir / "8.0U3" / "verified.json").unlink()
    assert isinstance(world.ask(NAME), Content)
    assert world.state("esx-02") == "loading"
