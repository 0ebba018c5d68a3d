"""Runs a plan: the fixed loop. For each step: check, apply, verify; again after a failure that may pass; then
the next. It keeps no records itself: events go to the observer, which must have them on disk when it returns,
so that a run that was killed is taken up after its last finished step.
"""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from midwife.core.plan import Plan, PlannedStep
from midwife.customize.bundles import BundleFolder
from midwife.customize.cancel import Cancel
from midwife.customize.connect import Login, connect
from midwife.customize.errors import (
    Cancelled,
    ConnectionLost,
    CustomizeError,
    PermanentError,
    SecretError,
    StepError,
    StepTimeout,
)
from midwife.customize.hostkey import Pins
from midwife.customize.masking import Masker
from midwife.customize.operations.base import Context, Memory, Operation, Result, perform
from midwife.customize.operations.esxcli import Esxcli
from midwife.customize.operations.reboot import Reboot
from midwife.customize.operations.run import Run
from midwife.customize.operations.upload import Upload
from midwife.customize.operations.wait_online import WaitOnline
from midwife.customize.secrets import Secrets
from midwife.customize.ssh import Connection

__all__ = ["EventKind", "Observer", "Outcome", "Patience", "RunEvent", "Target", "run_plan"]

EventKind = Literal["connecting", "connected", "step_started", "step_retry", "step_done", "step_failed"]


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a plan is run on, and how to log in to it."""

    host: str
    address: str
    """Numeric; where it called from, or the host's ``address:``."""
    pins: tuple[str, ...] | None
    """Its SSH host keys as its *authenticated* callback told them (``SHA256:…`` or ``ssh-ed25519:AAAA…``).
    None: it was not authenticated; then no secret is sent and only the key is used to log in."""
    port: int = 22
    user: str = "root"
    key: Path | None = None
    password: str | None = None
    """A reference (``env:NAME``), not the password."""

    @property
    def pinned(self) -> bool:
        """Whether secrets may be sent."""
        return self.pins is not None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something happened in a run. All texts are masked."""

    kind: EventKind
    step: int = -1
    """Index, from 0; -1: no step's."""
    name: str = ""
    """The step's."""
    text: str = ""
    """connecting, connected: where. step_retry, step_failed: the reason."""
    output: str = ""
    """What the host printed, at most 128 KiB."""
    changed: bool = False
    attempt: int = 1
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)


Observer = Callable[[RunEvent], None]
"""Called in the run's thread. If it raises, the run ends with that exception."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``interrupted``: the service stops; the run is to be taken up at its next start."""

    state: Literal["done", "failed", "cancelled", "interrupted"]
    step: int = -1
    """The step that failed or was under way; -1 for done."""
    reason: str = ""
    changed: int = 0
    """Steps that changed something, of those that were run now."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds. The defaults fit ESXi, whose sshd may start minutes after the callback."""

    connect: float = 300.0
    backoff: float = 1.0
    """Before the first retry of a step; doubles each time."""
    longest_backoff: float = 30.0
    poll: float = 2.0


def run_plan(
    plan: Plan,
    target: Target,
    observer: Observer,
    memory: Memory,
    cancel: Cancel,
    *,
    secrets: Secrets,
    bundles: BundleFolder,
    completed: Collection[int] = (),
    patience: Patience | None = None,
    pins: Callable[[], tuple[str, ...]] = tuple,
) -> Outcome:
    """Run the steps that are not ``completed`` (indices), in this thread, until done, failed or cancelled.

    ``pins`` is asked before each login for the host keys of the host's newest authenticated callback, () for
    those of ``target``: a host that runs from memory makes new keys at each boot, so also after a reboot step.
    Raises nothing of its own: what goes wrong on the host is in the outcome.
    """
    run = _PlanRun(plan, target, observer, memory, cancel, secrets, bundles, patience or Patience(), pins)
    return run.outcome(frozenset(completed))


def _operation(step: PlannedStep) -> Operation:
    match step.kind:
        case "run":
            return Run()
        case "esxcli":
            return Esxcli()
        case "upload":
            return Upload()
        case "wait_online":
            return WaitOnline()
        case "reboot":
            return Reboot()


class _PlanRun:
    """One call of ``run_plan``; also the hands of its operations."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        observer: Observer,
        memory: Memory,
        cancel: Cancel,
        secrets: Secrets,
        bundles: BundleFolder,
        patience: Patience,
        pins: Callable[[], tuple[str, ...]],
    ) -> None:
        self._pins = pins
        self._plan = plan
        self._target = target
        self._observer = observer
        self._memory = memory
        self._cancel = cancel
        self._secrets = secrets
        self._bundles = bundles
        self._patience = patience
        self._masker = Masker()
        self._connection: Connection | None = None
        self._log = structlog.get_logger().bind(host=target.host)

    def outcome(self, completed: frozenset[int]) -> Outcome:
        """Run it."""
        began = time.monotonic()
        todo = [step for step in self._plan.steps if step.index not in completed]
        at, changed = -1, 0
        result = Outcome("done")
        try:
            self._cancel.check()
            self._prepare(todo)
            for step in todo:
                at = step.index
                changed += self._step(step).changed
        except Cancelled as error:
            state: Literal["cancelled", "interrupted"] = "cancelled" if self._cancel.final else "interrupted"
            result = Outcome(state, at, str(error))
        except _Failed as error:
            result = Outcome("failed", error.step, error.reason)
        finally:
            self.let_go()
        return replace(result, changed=changed, seconds=round(time.monotonic() - began, 3))

    def reach(self, timeout: float | None = None) -> Connection:
        """See ``Hands``."""
        if self._connection and self._connection.alive:
            return self._connection
        self.let_go()
        login = self._login()
        began = time.monotonic()
        self._emit(RunEvent("connecting", text=login.where))
        self._connection = connect(
            login,
            cancel=self._cancel,
            masker=self._masker,
            timeout=self._patience.connect if timeout is None else timeout,
        )
        self._emit(RunEvent("connected", text=login.where, seconds=_since(began)))
        return self._connection

    def let_go(self) -> None:
        """See ``Hands``."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _login(self) -> Login:
        target = self._target
        password = None
        try:
            pins = None if target.pins is None else Pins.parse(self._pins() or target.pins)
        except ValueError as error:
            raise PermanentError(f"the callback named a host key that is none: {error}") from None
        # Without pins the password is not even read; ``connect`` would refuse to send it anyway.
        if target.password is not None and target.pinned:
            password = self._secrets.resolve("SSH password", target.password, self._masker)
        return Login(target.address, pins, target.port, target.user, target.key, password)

    def _prepare(self, todo: list[PlannedStep]) -> None:
        """Secrets, before anything is done: a host half customized is worse than one not begun. And the masker
        has to know them from the first command on, whose output may show what an earlier run left there.
        """
        for step in todo:
            try:
                self._resolve(step)
                if self._target.password is not None and self._target.pinned:
                    self._secrets.resolve("SSH password", self._target.password, self._masker)
            except SecretError as error:
                self._fail(step, error, 1, 0.0)
        for name in self._plan.secrets if self._target.pinned else ():
            with suppress(SecretError):  # of finished steps: only for masking
                self._secrets.named(name, self._masker)

    def _resolve(self, step: PlannedStep) -> None:
        if step.secrets and not self._target.pinned:
            raise SecretError(
                f"the step needs secrets ({', '.join(sorted(step.secrets))}), which go only to a host whose "
                "callback was authenticated and named its SSH host keys"
            )
        for name in step.secrets:
            self._secrets.named(name, self._masker)

    def _step(self, step: PlannedStep) -> Result:
        self._cancel.check()
        began = time.monotonic()
        self._emit(RunEvent("step_started", step.index, step.name))
        for attempt in range(1, step.retries + 2):
            try:
                result = self._attempt(step)
            except PermanentError as error:
                self._fail(step, error, attempt, _since(began))
            except StepError as error:
                if attempt > step.retries:
                    self._fail(step, error, attempt, _since(began))
                self._retry(step, error, attempt)
            else:
                self._emit(
                    RunEvent(
                        "step_done",
                        step.index,
                        step.name,
                        output=result.output,
                        changed=result.changed,
                        attempt=attempt,
                        seconds=_since(began),
                    )
                )
                return result
        raise AssertionError("the last attempt returns or fails")

    def _attempt(self, step: PlannedStep) -> Result:
        if step.kind not in ("reboot", "wait_online"):
            self.reach()  # connecting has its own patience, and is not counted in the step's timeout
        context = Context(
            step=step,
            hands=self,
            secret=lambda name: self._secrets.named(name, self._masker),
            bundles=self._bundles,
            memory=self._memory,
            cancel=self._cancel,
            poll=self._patience.poll,
            deadline=time.monotonic() + step.timeout,
        )
        try:
            return perform(_operation(step), context)
        except CustomizeError as error:
            # A cancel closes the connection, and whoever waits on it sees only that.
            self._cancel.check()
            if isinstance(
                error, StepTimeout
            ):  # its text tells what was left of the time for the last command
                raise StepTimeout(f"not finished after {step.timeout:g} s", error.output) from None
            raise

    def _retry(self, step: PlannedStep, error: StepError, attempt: int) -> None:
        pause = min(self._patience.backoff * 2 ** (attempt - 1), self._patience.longest_backoff)
        if isinstance(error, ConnectionLost):
            self.let_go()
        self._emit(
            RunEvent(
                "step_retry", step.index, step.name, str(error), error.output, attempt=attempt, seconds=pause
            )
        )
        self._cancel.pause(pause)

    def _fail(self, step: PlannedStep, error: CustomizeError, attempt: int, seconds: float) -> None:
        event = self._emit(
            RunEvent(
                "step_failed",
                step.index,
                step.name,
                str(error),
                error.output,
                attempt=attempt,
                seconds=seconds,
            )
        )
        raise _Failed(step.index, event.text)

    def _emit(self, event: RunEvent) -> RunEvent:
        """The one way out for texts: masked here, whatever was done before."""
        mask = self._masker.mask
        masked = replace(event, name=mask(event.name), text=mask(event.text), output=mask(event.output))
        self._log.info(
            event.kind.replace("_", " "),
            **{
                k: v
                for k, v in masked.to_json().items()
                if k in ("step", "name", "text", "attempt") and v != ""
            },
        )
        self._observer(masked)
        return masked


class _Failed(Exception):
    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
