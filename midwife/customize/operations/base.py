"""What an operation is, and what it gets: the step, a connection on demand, secrets, memory, a deadline.

Every operation may be run again at any time (after a dropped connection, after ``kill -9`` of midwife), so it
looks before it acts, and what it cannot see afterwards it remembers before.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midwife.core.plan import PlannedStep
from midwife.core.plantext import Text
from midwife.customize.bundles import BundleFolder
from midwife.customize.cancel import Cancel
from midwife.customize.errors import StepError, StepTimeout
from midwife.customize.ssh import Connection

__all__ = ["Context", "Hands", "Memory", "Operation", "Result", "perform"]


class Memory(Protocol):
    """Words about a run that survive the service (a table of the store). Keys are unique within the run."""

    def recall(self, key: str) -> str | None:
        """What was remembered, None for nothing."""

    def remember(self, key: str, value: str) -> None:
        """On disk when it returns."""


class Hands(Protocol):
    """The run's connection to its host."""

    def reach(self, timeout: float | None = None) -> Connection:
        """A living connection: the one there is, or a new one, tried for ``timeout`` seconds (None: the
        run's usual patience). Raises UnreachableError, HostKeyError, LoginError, Cancelled."""

    def let_go(self) -> None:
        """Close the connection, if there is one; the next ``reach`` makes a new one."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a step ended well. ``output`` is masked already."""

    changed: bool
    output: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything an operation may touch, for one attempt of one step."""

    step: PlannedStep
    hands: Hands
    secret: Callable[[str], str]
    bundles: BundleFolder
    memory: Memory
    cancel: Cancel
    poll: float
    """Seconds between two looks at a host that is being waited for."""
    deadline: float
    """``time.monotonic()`` at which this attempt's time is over."""

    @property
    def left(self) -> float:
        """Seconds until the deadline. Raises StepTimeout when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise StepTimeout(f"not finished after {self.step.timeout:g} s")
        return left

    def fill(self, text: Text) -> str:
        """With the secrets in it."""
        return text.filled(self.secret)

    def recall(self, key: str) -> str | None:
        """What this step remembered."""
        return self.memory.recall(f"step-{self.step.index}.{key}")

    def remember(self, key: str, value: str) -> None:
        """For this step, in this run."""
        self.memory.remember(f"step-{self.step.index}.{key}", value)


class Operation(Protocol):
    """One kind of step. ``check`` and ``verify`` come on top of the step's own ``check:`` and ``verify:``."""

    def check(self, context: Context) -> Result | None:
        """Done already? None: no, or no way to know."""

    def apply(self, context: Context) -> Result:
        """Do it. Raises StepError, PermanentError."""

    def verify(self, context: Context) -> None:
        """Raises StepError if it did not take effect."""


def perform(operation: Operation, context: Context) -> Result:
    """One attempt of a step: check, apply, verify. Raises CustomizeError."""
    done = operation.check(context)
    if done is not None:
        return done
    result = operation.apply(context)
    operation.verify(context)
    if context.step.verify:
        output = context.hands.reach().run(context.fill(context.step.verify), timeout=context.left)
        if output.rc:
            raise StepError(f"verify failed: '{_short(context.step.verify)}' exits {output.rc}", output.text)
    return result


def checked(context: Context) -> Result | None:
    """The step's own ``check:`` command: exit status 0 means that its work is done."""
    if not context.step.check:
        return None
    output = context.hands.reach().run(context.fill(context.step.check), timeout=context.left)
    return Result(changed=False, output=output.text) if output.rc == 0 else None


def _short(text: Text) -> str:
    line = " ".join(text.shown.split())
    return line if len(line) <= 100 else f"{line[:99]}…"
