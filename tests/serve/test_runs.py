"""From the callback to ``ready``: plans, real SSH, and a service that dies at any moment."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from midwife.core.facts import Facts
from midwife.core.lifecycle import State, Trigger
from midwife.serve.control.runs import Runs
from midwife.serve.keys import ServiceKeys
from midwife.site.model import Configuration, Items, Rule, Site
from midwife.store.records import Attempt
from tests.peers.sshd import SSHD, HostMachine, OpenSsh, running

from .deciding import HOSTKEY, World, make_site

HOST, ADDRESS = "esx-01", "127.0.0.1"
DEADLINE = 30


class Story:
    """What was written down, the moment it was: ``ready`` (a state), ``step-done`` (an event), ``run done``."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        world.attempts.move = self._after(world.attempts.move, self._state)  # type: ignore[method-assign]
        store = world.store
        store.add_event = self._after(store.add_event, lambda kind, *_, **_named: kind)  # type: ignore[method-assign]
        store.update_run = self._after(store.update_run, self._run)  # type: ignore[method-assign]

    async def until(self, wanted: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while await self._told.get() != wanted:
                    pass
        except TimeoutError:
            raise AssertionError(
                f"waited for {wanted}; {self._world.state()}: {self._world.texts()}"
            ) from None

    def _after(self, deed: Callable[..., Any], word: Callable[..., str]) -> Callable[..., Any]:
        """Runs tell the database in threads of their own."""

        def done(*words: Any, **named: Any) -> Any:
            result = deed(*words, **named)
            self._loop.call_soon_threadsafe(self._told.put_nowait, word(*words, **named))
            return result

        return done

    def _state(self, host: str, *_words: Any, **_named: Any) -> str:
        return self._world.state(host)

    @staticmethod
    def _run(_run: str, **values: Any) -> str:
        return f"run {values.get('state')}"


class Scene:
    """A control process with its runs, as far as they need one."""

    def __init__(self, site: Site) -> None:
        self.world = World(site)
        self.keys = ServiceKeys.open(site.data_dir)
        self.begin()

    def begin(self) -> None:
        """A process starts; resume() is its own word."""
        self.runs = Runs(self.world.site, self.world.store, self.keys, self.world.attempts)
        self.runs.bind(asyncio.get_running_loop())
        self.world.attempts.on_over = self.runs.cancel
        self.story = Story(self.world)

    def die(self) -> None:
        """The process is gone, the database is as it was."""
        self.runs.close()
        self.world.start()

    def called_back(self, pins: tuple[str, ...] = (HOSTKEY,)) -> Attempt:
        grant = self.world.grant(HOST, ADDRESS)
        self.world.load(grant.attempt)
        self.world.attempts.callback(HOST, pins, Facts(), "called back", ADDRESS)
        attempt = self.world.attempts.current(HOST)
        assert attempt
        return attempt

    def push(self, attempt: Attempt, *, trusted: bool = True) -> None:
        self.runs.start(attempt, self.world.attempts.facts(HOST), ADDRESS, trusted=trusted)

    @property
    def error(self) -> str:
        attempt = self.world.attempts.current(HOST)
        assert attempt
        return attempt.error

    def close(self) -> None:
        self.runs.close()
        self.world.close()


@pytest.fixture
async def scenes(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Scene] = []

    def make(*steps: dict[str, Any], **main: Any) -> Scene:
        nobody = {"ssh": {"port": "1"}}  # connections are refused, and tried again
        made.append(Scene(make_site(tmp_path / "site", steps=steps, **{**nobody, **main})))
        return made[-1]

    yield make
    for scene in made:
        await asyncio.to_thread(scene.runs.close)
        scene.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[HostMachine]:
    if SSHD is None:
        pytest.skip("needs OpenSSH's sshd (apt-get install openssh-server)")
    with running(OpenSsh(tmp_path / "machine")) as machine:
        yield machine


def ssh_to(machine: HostMachine) -> dict[str, Any]:
    return {"user": machine.user, "port": machine.port, "key": str(machine.key)}


async def test_from_the_callback_to_ready(scenes: Any, machine: HostMachine, monkeypatch: Any) -> None:
    monkeypatch.setenv("AGENT_TOKEN", "hunter2-hunter2")
    scene = scenes(
        {"name": "one", "run": "echo {{ host.name }} > $HOME/one"},
        {"name": "two", "run": "echo {{ secret('agent') }} | tee $HOME/two"},
        ssh=ssh_to(machine),
        secrets={"agent": "env:AGENT_TOKEN"},
    )
    with capture_logs() as logs:
        scene.push(scene.called_back(machine.pins))
        assert scene.world.state() == "customizing"
        await scene.story.until("ready")
    assert (machine.home / "one").read_text() == "esx-01\n"
    assert (machine.home / "two").read_text() == "hunter2-hunter2\n"
    kinds = scene.world.kinds()
    assert kinds[-6:] == ["customizing", "connecting", "connected", "step-done", "step-done", "ready"]
    row = scene.world.store.unfinished_runs()
    assert row == []
    # The secret went to the host, and nowhere else.
    database = b"".join(file.read_bytes() for file in scene.world.site.data_dir.glob("midwife.db*"))
    assert b"hunter2" not in database
    assert "hunter2" not in repr(logs)
    done = [event for event in scene.world.store.events(HOST) if event.kind == "step-done"]
    assert done[1].data["output"], "what the command printed is there, masked"


async def test_the_wrong_machine_gets_nothing(scenes: Any, machine: HostMachine) -> None:
    """It has the address, and another host key than the one that called."""
    scene = scenes({"run": "touch $HOME/was-here"}, ssh=ssh_to(machine))
    scene.push(scene.called_back((HOSTKEY,)))
    await scene.story.until("failed")
    assert "host key" in scene.error
    assert not (machine.home / "was-here").exists()


@pytest.mark.parametrize(("pins", "trusted"), [((), True), ((HOSTKEY,), False)])
async def test_secrets_go_to_nobody_who_did_not_prove_himself(
    scenes: Any, pins: tuple[str, ...], trusted: bool, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AGENT_TOKEN", "hunter2-hunter2")
    scene = scenes({"run": "echo {{ secret('agent') }}"}, secrets={"agent": "env:AGENT_TOKEN"})
    scene.push(scene.called_back(pins), trusted=trusted)
    await scene.story.until("failed")
    assert "the step needs secrets (agent), which go only to a host whose callback was authenticated" in (
        scene.error
    )


async def test_without_a_configuration_it_is_ready_at_once(scenes: Any) -> None:
    scene = scenes()
    attempt = scene.called_back()
    scene.push(replace(attempt, answer={**attempt.answer, "configuration": ""}))
    assert scene.world.state() == "ready"
    assert "nothing to push: no configuration" in scene.world.texts()


async def test_a_configuration_that_left_the_site_meanwhile(scenes: Any) -> None:
    scene = scenes()
    attempt = scene.called_back()
    scene.runs.site = scene.world.site.model_copy(update={"configurations": {}})
    scene.push(attempt)
    assert (scene.world.state(), scene.error) == ("failed", "configuration base is no longer in the site")


async def test_a_plan_that_cannot_be_made_says_which_step(scenes: Any) -> None:
    scene = scenes({"run": "true"}, {"name": "net", "run": "echo {{ host.vars.vlan }}"})
    attempt = scene.called_back()
    scene.push(attempt)
    assert scene.world.state() == "failed"
    assert "configuration 'base', step 2 (net): run: " in scene.error
    assert scene.world.store.run(attempt.id) is None
    # >> the user mends the step, and the host (or a person on it) calls once more
    mended = Configuration.model_validate({"name": "base", "steps": []})
    scene.runs.site = scene.world.site.model_copy(update={"configurations": {"base": mended}})
    assert scene.world.attempts.callback(HOST, (), Facts(), "called back", ADDRESS)
    scene.push(attempt)
    await scene.story.until("ready")
    assert scene.error == ""


async def test_the_host_file_counts_that_it_booted_by(scenes: Any) -> None:
    """A host that claims another one's serial number is not taken for none, or for that one."""
    scene = scenes({"run": "echo {{ host.name }}"})
    attempt = scene.called_back()
    scene.runs.start(attempt, Facts(macs=("52:54:00:00:00:02",), serial="SN-1"), ADDRESS, trusted=True)
    row = scene.world.store.run(attempt.id)
    assert row
    assert row.plan["steps"][0]["command"]["parts"] == ["echo esx-01"]


# interrupted at any moment


async def test_killed_between_the_callback_and_the_run(scenes: Any, machine: HostMachine) -> None:
    scene = scenes({"run": "touch $HOME/done"}, ssh=ssh_to(machine))
    scene.called_back(machine.pins)
    scene.die()
    scene.begin()
    scene.runs.resume()
    await scene.story.until("ready")
    assert (machine.home / "done").exists()


async def test_the_caller_is_remembered_over_a_restart(scenes: Any) -> None:
    """callback.address: any: the system's lease is another than its firmware's."""
    scene = scenes({"run": "true"})
    grant = scene.world.grant(HOST, "192.0.2.11")
    scene.world.load(grant.attempt)
    scene.world.attempts.callback(HOST, (HOSTKEY,), Facts(), "called back", "127.0.0.9")
    scene.die()
    scene.begin()
    scene.runs.resume()
    row = scene.world.store.run(grant.attempt)
    assert row
    assert (row.target["address"], row.target["pins"]) == ("127.0.0.9", [HOSTKEY])


async def test_killed_while_a_step_runs(scenes: Any, machine: HostMachine) -> None:
    gate = machine.home / "gate"
    scene = scenes(
        {"name": "first", "run": "echo x >> $HOME/first"},
        {"name": "second", "run": "test -e $HOME/gate && echo x >> $HOME/second", "retries": "20"},
        ssh=ssh_to(machine),
    )
    attempt = scene.called_back(machine.pins)
    scene.push(attempt)
    await scene.story.until("step-retry")
    await asyncio.to_thread(scene.die)
    interrupted = scene.world.store.run(attempt.id)
    assert interrupted
    assert (interrupted.state, interrupted.step, interrupted.label) == ("running", 1, "second")
    assert scene.world.state() == "customizing"
    gate.touch()
    scene.begin()
    scene.runs.resume()
    await scene.story.until("ready")
    assert (machine.home / "first").read_text() == "x\n", "what was done is not done again"
    assert (machine.home / "second").read_text() == "x\n"
    assert "taken up again after step 1 of 2" in scene.world.texts()


@pytest.mark.parametrize(
    ("state", "error", "ends"), [("done", "", "ready"), ("failed", "step 2: it said no", "failed")]
)
async def test_killed_between_the_last_step_and_the_last_word(
    scenes: Any, state: str, error: str, ends: str
) -> None:
    scene = scenes({"run": "true"})
    attempt = scene.called_back()
    scene.push(attempt)
    await asyncio.to_thread(scene.die)
    scene.world.store.update_run(attempt.id, state=state, step=1, ended=5.0, error=error)
    scene.begin()
    scene.runs.resume()
    assert (scene.world.state(), scene.error) == (ends, error)


async def test_a_plan_of_the_future_cannot_be_taken_up(scenes: Any) -> None:
    scene = scenes({"run": "true"})
    attempt = scene.called_back()
    scene.push(attempt)
    await asyncio.to_thread(scene.die)
    scene.world.store.update_run(attempt.id, plan={"version": 99})
    scene.begin()
    scene.runs.resume()
    await scene.story.until("failed")
    assert "a stored plan has version 99" in scene.error


async def test_a_run_whose_host_moved_on_before_the_crash(scenes: Any) -> None:
    scene = scenes({"run": "true"})
    old = scene.called_back()
    scene.push(old)
    await asyncio.to_thread(scene.die)
    scene.world.grant(HOST, ADDRESS)
    scene.begin()
    scene.runs.resume()
    row = scene.world.store.run(old.id)
    assert row
    assert (row.state, row.error) == ("cancelled", "the host moved on")
    assert scene.world.state() == "loading"


async def test_a_reboot_step_that_a_restart_interrupts_stays_one_boot(scenes: Any) -> None:
    """The host comes up again while the service does."""
    scene = scenes({"reboot": "a new driver"})
    attempt = scene.called_back()
    scene.push(attempt)
    await asyncio.to_thread(scene.die)
    scene.begin()
    scene.runs.resume()
    assert scene.world.grant(HOST, ADDRESS).attempt == attempt.id


# cut short


async def test_a_host_that_starts_over_ends_its_run(scenes: Any, machine: HostMachine) -> None:
    scene = scenes({"run": "sleep 60"}, ssh=ssh_to(machine))
    old = scene.called_back(machine.pins)
    scene.push(old)
    new = scene.world.grant(HOST, ADDRESS)
    await scene.story.until("run cancelled")
    row = scene.world.store.run(old.id)
    assert row
    assert row.error == "the host started over"
    assert scene.world.state() == "loading"
    assert scene.world.attempts.current(HOST).id == new.attempt


async def test_a_customization_that_takes_too_long_ends_too(scenes: Any, machine: HostMachine) -> None:
    scene = scenes({"run": "sleep 60"}, ssh=ssh_to(machine), deadlines={"customizing": "30m"})
    attempt = scene.called_back(machine.pins)
    scene.push(attempt)
    scene.world.clock.forward(1801)
    scene.world.attempts.tick()
    assert (scene.world.state(), scene.error) == ("failed", "the customization did not end in time")
    await scene.story.until("run cancelled")
    assert scene.world.state() == "failed"


async def test_a_bug_in_a_run_is_told_and_other_hosts_go_on(scenes: Any, monkeypatch: Any) -> None:
    def broken(*_words: Any, **_named: Any) -> None:
        raise RuntimeError("with a secret in it: hunter2")

    monkeypatch.setattr("midwife.serve.control.runs.run_plan", broken)
    scene = scenes({"run": "true"})
    scene.push(scene.called_back())
    await scene.story.until("failed")
    assert "the run broke off (RuntimeError in " in scene.error
    assert "hunter2" not in json.dumps(scene.world.texts())


async def test_a_run_that_ends_after_its_attempt_changes_nothing(scenes: Any) -> None:
    scene = scenes({"run": "true"})
    attempt = scene.called_back()
    scene.world.attempts.move(HOST, Trigger.PUSH, "customizing", "1 step")
    scene.world.grant(HOST, ADDRESS)
    assert not scene.world.attempts.move(HOST, Trigger.DONE, "ready", "late", attempt=attempt.id)
    assert scene.world.attempts.current(HOST).state is State.LOADING


@pytest.mark.parametrize(
    ("told", "state", "text"),
    [
        (Facts(), "failed", "its asset is not known, which could change its configuration"),
        (Facts(asset="A-1"), "customizing", "configuration base, given by 'mine': settled by what it told"),
        (Facts(asset="A-2"), "ready", "configuration none, given by nobody: settled by what it told"),
    ],
)
async def test_a_configuration_that_hung_on_a_fact_is_settled_by_the_call(
    scenes: Any, told: Facts, state: str, text: str
) -> None:
    """It was booted without its asset tag being known; no configuration is pushed on a guess."""
    scene = scenes({"run": "true"})
    rule = Rule(name="mine", patterns=("asset=A-1",), items=Items(configuration="base"))
    hosts = tuple(host.model_copy(update={"configuration": None}) for host in scene.world.site.hosts)
    scene.world.site = scene.world.site.model_copy(update={"hosts": hosts, "rules": (rule,)})
    scene.runs.site = scene.world.site
    attempt = scene.called_back()
    assert attempt.answer["unsettled"] == {"configuration": ["asset"]}
    scene.runs.start(attempt, told, ADDRESS, trusted=True)
    assert scene.world.state() == state
    assert text in scene.world.texts()
