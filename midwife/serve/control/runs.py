"""Runs: from an authenticated callback to ``ready``. Makes the plan, stores it, starts it, writes its timeline.

The plan is resolved once and stored with the run in one transaction; the engine executes it in a thread. What
happens there reaches the database before the thread goes on (so a killed service takes the run up after its last
finished step), and the lifecycle on the event loop.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from midwife.core.decide import settle
from midwife.core.facts import Facts
from midwife.core.lifecycle import State, Trigger
from midwife.core.plan import Plan, PlanError, build_plan, effective_ssh
from midwife.customize.bundles import BundleFolder
from midwife.customize.cancel import Cancel
from midwife.customize.runner import Outcome, RunEvent, Target, run_plan
from midwife.customize.secrets import Secrets
from midwife.engine.local import LocalEngine
from midwife.serve.attempts import Attempts
from midwife.serve.keys import ServiceKeys
from midwife.site.model import Host, Site
from midwife.store.records import Attempt, RunRow
from midwife.store.store import Store

__all__ = ["Runs"]

_OUTPUT_KEPT = 4096  # characters of a step's output that go into the timeline


class Runs:
    """The customizations of one service."""

    def __init__(self, site: Site, store: Store, keys: ServiceKeys, attempts: Attempts) -> None:
        self.site = site
        self._store = store
        self._keys = keys
        self._attempts = attempts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine = LocalEngine(self._execute, crashed=self._crashed)
        self._log = structlog.get_logger().bind(part="runs")

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The event loop on which the lifecycle moves."""
        self._loop = loop

    def start(self, attempt: Attempt, facts: Facts, client: str, *, trusted: bool) -> None:
        """Plan and start what this attempt's configuration asks for; without one the host is ready now.

        Whose host file counts was decided when it booted: what it says of itself now does not make it another.
        """
        host = next((host for host in self.site.hosts if host.name == attempt.host), None)
        named = self._configuration(attempt, host, facts)
        if named is None:
            return
        if not named:
            self._attempts.move(attempt.host, Trigger.DONE, "ready", "nothing to push: no configuration")
            return
        configuration = self.site.configurations.get(named)
        if configuration is None:
            text = f"configuration {named} is no longer in the site"
            self._attempts.move(attempt.host, Trigger.FAIL, "failed", text)
            return
        ssh = effective_ssh(self.site.main.ssh, configuration, host)
        try:
            plan = build_plan(
                configuration,
                host=host,
                facts=facts,
                ssh=ssh,
                bundles=BundleFolder(self.site.root / "bundles"),
                secrets=self.site.main.secrets.keys(),
                name=attempt.host,
                address=client,
            )
        except PlanError as error:
            self._attempts.move(attempt.host, Trigger.FAIL, "failed", str(error))
            return
        row = RunRow(
            id=attempt.id,
            host=attempt.host,
            attempt=attempt.id,
            plan=plan.to_json(),
            target={
                "address": (host.address if host else None) or client,
                "pins": list(attempt.pinned) if trusted and attempt.pinned else None,
                "port": ssh.port,
                "user": ssh.user,
                "key": str(self.site.root / ssh.key if ssh.key else self._keys.ssh_key),
                "password": ssh.password,
            },
            state="running",
            step=0,
            label=plan.steps[0].name if plan.steps else "",
            memory={},
            started=time.time(),
        )
        if self._store.add_run(row):
            count = len(plan.steps)
            text = f"{count} step{'s' if count != 1 else ''} of configuration {named}"
            self._attempts.move(attempt.host, Trigger.PUSH, "customizing", text)
            self._engine.start(row.id, plan)

    def _configuration(self, attempt: Attempt, host: Host | None, facts: Facts) -> str | None:
        """What was decided when it booted, or now, if facts were missing then. None: they still are; it failed."""
        if "configuration" not in (attempt.answer.get("unsettled") or {}):
            return str(attempt.answer.get("configuration") or "")
        answer = settle(facts, self.site, host, attempt.host)
        if missing := answer.unsettled.get("configuration"):
            text = (
                f"nothing is pushed: its {', '.join(missing)} is not known, which could change its configuration; "
                f"name one in its host file, or pin it: midwife rule pin {attempt.host} --configuration NAME"
            )
            self._attempts.move(attempt.host, Trigger.FAIL, "failed", text)
            return None
        by = answer.given_by.get("configuration", "nobody")
        text = f"configuration {answer.configuration or 'none'}, given by {by}: settled by what it told"
        self._attempts.event(attempt.host, "settled", text)
        return answer.configuration

    def resume(self) -> None:
        """Take up what a crash or a restart interrupted, wherever it did."""
        for host in self._store.hosts():
            if host.state not in (State.CALLED_BACK, State.CUSTOMIZING):
                continue
            attempt = self._attempts.current(host.id)
            if attempt is None:
                continue
            row = self._store.run(attempt.id)
            if row is None:  # stopped between the callback and the run
                client = str(attempt.answer.get("caller") or attempt.address)
                self.start(attempt, host.facts, client, trusted=bool(attempt.pinned))
            elif row.state == "running":
                self._take_up(row)
            elif row.state == "done":  # stopped between the last step and the last word
                text = f"{row.step} steps were done before the service was restarted"
                self._attempts.move(row.host, Trigger.DONE, "ready", text, attempt=row.attempt)
            else:
                self._attempts.move(row.host, Trigger.FAIL, "failed", row.error, attempt=row.attempt)
        for row in self._store.unfinished_runs():
            if row.id not in self._engine.active():
                self._store.update_run(
                    row.id, state="cancelled", ended=time.time(), error="the host moved on"
                )

    def _take_up(self, row: RunRow) -> None:
        try:
            plan = Plan.from_json(dict(row.plan))
        except PlanError as error:
            self._ended(row, Outcome("failed", -1, str(error)))
            return
        text = f"taken up again after step {row.step} of {len(plan.steps)}"
        self._attempts.move(row.host, Trigger.PUSH, "resumed", text, attempt=row.attempt)
        if row.step < len(plan.steps):  # the host may be on its way up from the reboot that we asked for
            self._attempts.rebooting(row.attempt, on=plan.steps[row.step].kind == "reboot")
        self._engine.start(row.id, plan)

    def cancel(self, run: str, why: str) -> None:
        """The attempt is over, and with it what is being pushed."""
        self._engine.cancel(run, why)

    def close(self) -> None:
        """Stop every run where it is; they are taken up at the next start."""
        self._engine.close()

    # in the run's thread

    def _execute(self, run: str, plan: Plan, cancel: Cancel) -> None:
        row = self._store.run(run)
        if row is None or row.state != "running":
            return
        site = self.site
        outcome = run_plan(
            plan,
            _target(row),
            lambda event: self._observe(row, plan, event),
            _StoredMemory(self._store, row),
            cancel,
            secrets=Secrets(site.main.secrets, root=site.root),
            bundles=BundleFolder(site.root / "bundles"),
            completed=range(row.step),
            pins=lambda: self._pins(row.attempt),
        )
        self._ended(row, outcome)

    def _pins(self, attempt: str) -> tuple[str, ...]:
        """The host keys that its newest authenticated callback named."""
        found = self._store.attempt(attempt)
        return found.pinned if found else ()

    def _observe(self, row: RunRow, plan: Plan, event: RunEvent) -> None:
        """On disk before the run goes on."""
        data = {**event.to_json(), "output": event.output[-_OUTPUT_KEPT:]}
        kind, text = event.kind.replace("_", "-"), _words(event, len(plan.steps))
        if event.kind == "step_started":
            self._store.update_run(row.id, label=event.name)
            step = plan.steps[event.step]
            self._soon(self._attempts.rebooting, row.attempt, step.kind == "reboot")
            return
        if event.kind == "step_done":
            done = event.step + 1
            label = plan.steps[done].name if done < len(plan.steps) else ""
            self._store.update_run(row.id, step=done, label=label)
        self._store.add_event(kind, text, host=row.host, attempt=row.attempt, data=data)

    def _ended(self, row: RunRow, outcome: Outcome) -> None:
        if outcome.state == "interrupted":
            return
        self._store.update_run(row.id, state=outcome.state, ended=time.time(), error=outcome.reason)
        if outcome.state == "cancelled":
            return
        self._soon(self._finish, row, outcome)

    def _crashed(self, run: str, reason: str) -> None:
        row = self._store.run(run)
        if row and row.state == "running":
            self._ended(
                row, Outcome("failed", row.step, f"the run broke off ({reason}); see the service's log")
            )

    def _finish(self, row: RunRow, outcome: Outcome) -> None:
        """On the event loop."""
        self._attempts.rebooting(row.attempt, on=False)
        if outcome.state == "done":
            changed = f"{outcome.changed} step{'s' if outcome.changed != 1 else ''} changed something"
            text = f"customized in {outcome.seconds:.1f} s, {changed}"
            self._attempts.move(row.host, Trigger.DONE, "ready", text, attempt=row.attempt)
        else:
            step = f"step {outcome.step + 1}: " if outcome.step >= 0 else ""
            text = f"{step}{outcome.reason}"
            self._attempts.move(row.host, Trigger.FAIL, "failed", text, attempt=row.attempt)

    def _soon(self, what: Any, *arguments: Any) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *arguments)


class _StoredMemory:
    """What a step must know again after a restart, kept in the run's row."""

    def __init__(self, store: Store, row: RunRow) -> None:
        self._store = store
        self._run = row.id
        self._values: dict[str, Any] = dict(row.memory)

    def recall(self, key: str) -> str | None:
        """What was remembered, also before a restart."""
        value = self._values.get(key)
        return None if value is None else str(value)

    def remember(self, key: str, value: str) -> None:
        """On disk when it returns."""
        self._values[key] = value
        self._store.update_run(self._run, memory=self._values)


def _target(row: RunRow) -> Target:
    target: Mapping[str, Any] = row.target
    return Target(
        host=row.host,
        address=target["address"],
        pins=tuple(target["pins"]) if target["pins"] else None,
        port=target["port"],
        user=target["user"],
        key=Path(target["key"]) if target["key"] else None,
        password=target["password"],
    )


def _words(event: RunEvent, steps: int) -> str:
    """The timeline's line."""
    number = f"{event.step + 1}/{steps} {event.name}"
    match event.kind:
        case "connecting":
            return f"connecting to {event.text}"
        case "connected":
            return f"logged in to {event.text} after {event.seconds:.1f} s"
        case "step_done":
            return f"{number}: {'changed' if event.changed else 'already so'} ({event.seconds:.1f} s)"
        case "step_retry":
            return f"{number}: {event.text}; trying again in {event.seconds:.0f} s"
        case "step_failed":
            return f"{number}: {event.text}"
    return number
