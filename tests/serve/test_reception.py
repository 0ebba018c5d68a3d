"""Who calls, and what does that prove? Transcripts of calls, good and bad."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from midwife.core.facts import Facts
from midwife.core.lifecycle import State, Trigger
from midwife.core.token import mint
from midwife.serve.callback import Transport
from midwife.wire.callback import CallbackMessage, HostKey, Phase, Verdict

from .deciding import HOSTKEY, MACS, SECRET, World, make_site, usual_hosts

FIRST, OTHER = "192.0.2.11", "192.0.2.66"
KEYS = (HostKey(HOSTKEY),)


def build(root: Path, **callback: str) -> World:
    return World(make_site(root, callback=callback))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = build(tmp_path)
    yield world
    world.close()


def booted(world: World) -> CallbackMessage:
    """A host that has loaded everything, and the message it will send."""
    grant = world.grant()
    world.load(grant.attempt)
    return CallbackMessage(
        token=grant.token, hostkeys=KEYS, macs=(MACS["esx-01"],), version="VMware ESXi 8.0.3"
    )


def test_a_good_token_from_the_right_address(world: World) -> None:
    message = booted(world)
    # >> host sends its token, << we acknowledge, and push
    reply = world.call(message)
    trip = world.attempts.current("esx-01")
    assert trip
    assert (reply.verdict, reply.attempt, reply.state) == (Verdict.OK, trip.id, "called-back")
    ((attempt, facts, client, trusted),) = world.runs.started
    assert (attempt.id, attempt.pinned, client, trusted) == (trip.id, (HOSTKEY,), FIRST, True)
    assert facts.version == "VMware ESXi 8.0.3"
    assert "called back from 192.0.2.11 over tcp: VMware ESXi 8.0.3" in world.texts()


def test_the_same_call_again_is_acknowledged_and_starts_nothing(world: World) -> None:
    message = booted(world)
    for transport in (Transport.TCP, Transport.UDP, Transport.HTTP):
        assert world.call(message, transport=transport).verdict is Verdict.OK
    assert len(world.runs.started) == 1


def copied(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    return message, OTHER


def fetched_elsewhere(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    return replace(message, token=world.grant(address=OTHER).token), OTHER


def expired(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    world.clock.forward(3601)
    return message, FIRST


def moved_on(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    world.load(world.grant().attempt)
    return message, FIRST


def forged(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    attempt = message.token.partition(".")[0]
    return replace(message, token=mint(b"another secret", attempt, FIRST)), FIRST


def cut(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    return replace(message, token=message.token[:-1]), FIRST


def of_nobody(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    return replace(message, token=mint(SECRET, "deadbeef", FIRST)), FIRST


def of_another_host(world: World, message: CallbackMessage) -> tuple[CallbackMessage, str]:
    """esx-02's token from esx-01's address, with esx-01's MAC address."""
    other = world.grant("esx-02", address="192.0.2.12", image="8.0U3")
    return replace(message, token=other.token), FIRST


@pytest.mark.parametrize(
    ("trick", "says"),
    [
        (copied, "its token belongs to 192.0.2.11. If the system gets another lease than its firmware"),
        (fetched_elsewhere, "was copied, or the configuration was fetched by somebody else"),
        (expired, "its token is older than 60 minutes (callback.token-lifetime)"),
        (moved_on, "but the host has booted again since"),
        (forged, "was copied, or the configuration was fetched by somebody else"),
        (cut, "names no boot attempt of this service; boot it again"),
        (of_nobody, "names no boot attempt of this service; boot it again"),
        (of_another_host, "its token belongs to 192.0.2.12"),
    ],
)
def test_any_other_token_is_refused_recorded_and_shown(
    world: World, trick: Callable[[World, CallbackMessage], tuple[CallbackMessage, str]], says: str
) -> None:
    message, client = trick(world, booted(world))
    state = world.state()
    reply = world.call(message, client)
    assert reply.verdict is Verdict.REFUSED
    assert says in reply.reason
    assert world.state() == state
    assert world.runs.started == []
    every = [event for event in world.store.events() if event.kind == "callback-refused"]
    assert len(every) == 1
    assert says in every[0].text
    assert f"callback from {client} refused" in every[0].text


def test_any_address_where_the_site_says_so(tmp_path: Path) -> None:
    world = build(tmp_path, address="any")
    message = booted(world)
    assert world.call(message, OTHER).verdict is Verdict.OK
    assert world.runs.started[0][2] == OTHER
    # >> but a token over another address than the one that fetched is no better than before
    stranger = replace(message, token=mint(SECRET, message.token.partition(".")[0], OTHER))
    assert world.call(stranger, OTHER).verdict is Verdict.REFUSED
    world.close()


def test_the_address_of_the_host_file_is_accepted(tmp_path: Path) -> None:
    hosts = [host.model_copy(update={"address": "192.0.2.99"}) for host in usual_hosts()[:1]]
    world = World(make_site(tmp_path, hosts=hosts))
    message = booted(world)
    assert world.call(message, OTHER).verdict is Verdict.REFUSED
    assert world.call(message, "192.0.2.99").verdict is Verdict.OK
    assert len(world.runs.started) == 1
    world.close()


def test_a_reboot_step_after_hours_is_acknowledged(world: World) -> None:
    """The attempt is older than its token may be; nothing starts any more by this call."""
    message = booted(world)
    world.call(message)
    world.attempts.move("esx-01", Trigger.PUSH, "customizing", "2 steps")
    world.clock.forward(4000)
    assert world.call(message).verdict is Verdict.OK
    assert len(world.runs.started) == 1


@pytest.mark.parametrize("phase", [Phase.PRE, Phase.POST, Phase.INSTALLED])
def test_the_installer_s_words_are_written_down_and_push_nothing(world: World, phase: Phase) -> None:
    message = replace(booted(world), phase=phase)
    assert world.call(message).verdict is Verdict.OK
    assert (world.state(), world.runs.started) == ("booted", [])
    assert world.kinds()[-1] == f"installer-{phase}"


def test_without_host_keys_no_secret_is_pushed(world: World) -> None:
    assert world.call(replace(booted(world), hostkeys=())).verdict is Verdict.OK
    ((attempt, _, _, trusted),) = world.runs.started
    assert trusted
    assert attempt.pinned == (), "which is what the runner goes by"
    assert "told no SSH host key: nothing that needs a secret can be pushed" in world.texts()


# without a token


def claim(**changes: Any) -> CallbackMessage:
    return replace(CallbackMessage(macs=(MACS["esx-01"],), hostkeys=KEYS, version="ESXi"), **changes)


def test_a_claim_is_recorded_and_pushes_nothing(world: World) -> None:
    booted(world)
    for _ in range(50):
        assert world.call(claim()).state == "recorded"
    assert (world.state(), world.runs.started) == ("booted", [])
    assert world.kinds().count("callback-unauthenticated") == 1
    assert "without a token: recorded, nothing is pushed" in world.texts()


def test_a_claim_changes_nothing_that_is_known_of_a_host(world: World) -> None:
    """Whoever names a host's serial number must not add his own MAC address to it."""
    booted(world)
    before = world.store.host("esx-01")
    world.call(claim(macs=("02:00:00:00:00:66",), serial="SN-1", vendor="Evil Inc."), OTHER)
    after = world.store.host("esx-01")
    assert before
    assert after
    assert after.facts == before.facts
    (event,) = (e for e in world.store.events("esx-01") if e.kind == "callback-unauthenticated")
    assert event.data["claims"]["macs"] == ["02:00:00:00:00:66"]


def test_an_unknown_machine_that_calls_is_shown(world: World) -> None:
    world.call(claim(macs=("02:00:00:00:00:66",)), OTHER)
    assert world.state("02:00:00:00:00:66") == "discovered"
    world.call(CallbackMessage(serial="whatever"), OTHER)
    assert world.kinds("") == ["callback-unauthenticated"]


def test_push_without_proof_where_the_site_wants_it(tmp_path: Path) -> None:
    world = build(tmp_path, unauthenticated="push")
    booted(world)
    assert world.call(claim(), OTHER).state == "recorded", "not from another address"
    assert world.call(claim(phase=Phase.PRE)).state == "recorded", "not before the system is up"
    assert world.runs.started == []
    world.call(claim())
    ((attempt, _, client, trusted),) = world.runs.started
    assert (client, trusted) == (FIRST, False)
    assert attempt.pinned == (), "keys that nobody vouches for are not pinned"
    world.call(claim())
    assert len(world.runs.started) == 1
    world.close()


def test_push_without_proof_only_while_the_boot_is_fresh(tmp_path: Path) -> None:
    """Later the lease may be another machine's."""
    world = build(tmp_path, unauthenticated="push")
    booted(world)
    world.clock.forward(3601)
    world.attempts.tick()
    assert world.state() == "failed"
    world.call(claim())
    world.call(None)
    assert world.runs.started == []
    world.close()


def test_the_bare_connection_of_esxi_itself(world: World) -> None:
    booted(world)
    for _ in range(20):
        assert world.call(None, transport=Transport.BARE).verdict is Verdict.OK
    assert (world.state(), world.runs.started) == ("booted", [])
    assert world.kinds().count("callback-bare") == 1
    assert "(taken for esx-01 by its address): recorded, nothing is pushed" in world.texts()
    world.call(None, OTHER, Transport.BARE)
    assert "(no host under way has that address)" in world.texts("")


def test_the_bare_connection_may_push_where_the_site_wants_it(tmp_path: Path) -> None:
    world = build(tmp_path, unauthenticated="push")
    booted(world)
    world.call(None, transport=Transport.BARE)
    world.call(None, transport=Transport.BARE)
    ((attempt, _, _, trusted),) = world.runs.started
    assert (attempt.host, attempt.state, trusted) == ("esx-01", State.CALLED_BACK, False)
    world.close()


# what must not happen


def test_no_token_is_ever_written_down(world: World) -> None:
    message = booted(world)
    attempt = message.token.partition(".")[0]
    with capture_logs() as logs:
        world.call(message)
        world.call(message, OTHER)
        world.call(replace(message, token=message.token[:-1] + "a"))
        world.call(replace(message, phase=Phase.PRE))
        world.text("ipxe", mac=MACS["esx-01"])
    mac = message.token.partition(".")[2]
    written = json.dumps([[event.text, dict(event.data)] for event in world.store.events()])
    assert attempt in written + repr(logs), "the attempt's id may be told"
    assert mac[:8] not in written + repr(logs)
    database = b"".join(file.read_bytes() for file in world.site.data_dir.glob("midwife.db*"))
    assert mac[:8].encode() not in database
    assert mac not in repr(message)


def test_a_flood_of_junk_tokens_from_made_up_addresses(world: World) -> None:
    booted(world)
    for number in range(500):
        world.call(CallbackMessage(token=f"deadbeef.{'a' * 26}"), f"203.0.113.{number % 256}", Transport.UDP)
        world.call(CallbackMessage(token="junk"), f"198.51.100.{number % 256}", Transport.UDP)
    assert len(list(world.store.events(""))) == 31
    assert world.attempts.facts("esx-01") == Facts(macs=(MACS["esx-01"],))
