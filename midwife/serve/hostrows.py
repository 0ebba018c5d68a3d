"""The rows of machines: met for the first time, known better with every packet, moved while no boot is under way.

Strangers (machines that no host file names) get rows too, so that a person sees them; but a boot network is
hostile and MAC addresses cost nothing to make up, so there is room for so many and no more.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from midwife.core.decide import Action, Answer
from midwife.core.facts import Facts
from midwife.core.lifecycle import Refusal, State, Trigger, follow
from midwife.serve.quiet import Quiet
from midwife.store.records import HostRow
from midwife.store.store import Store

__all__ = ["MAX_STRANGERS", "HostRows", "TooManyStrangersError"]

MAX_STRANGERS = 10_000
_REPEAT_SECONDS = 60.0


class TooManyStrangersError(Exception):
    """A machine nobody knows asked, and no more of them are written down."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not recorded: {MAX_STRANGERS} unknown machines are already; "
            "somebody may be making up MAC addresses"
        )


class HostRows:
    """Every machine that was ever seen, or that the site names."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._strangers = store.strangers()
        self._quiet = Quiet(_REPEAT_SECONDS)
        self._log = structlog.get_logger().bind(part="boot")

    def meet(self, answer: Answer, facts: Facts) -> HostRow:
        """The machine's row with these facts merged in; made if it is new. Raises TooManyStrangersError."""
        row = self._store.host(answer.name)
        known = answer.host is not None
        if row is not None:
            return self._save(row, replace(row, facts=row.facts.merged(facts), known=known))
        if not known:
            self._make_room(answer.name)
        expected = answer.action is Action.BOOT or (known and answer.action is Action.ASK)
        state = State.ARMED if expected else State.DISCOVERED
        row = HostRow(answer.name, known, facts, state, self._clock(), "", answer.image, "")
        return self._save(None, row)

    def learn(self, row: HostRow, facts: Facts) -> HostRow:
        """The row with these facts merged in."""
        return self._save(row, replace(row, facts=row.facts.merged(facts)))

    def move(self, row: HostRow, trigger: Trigger, answer: Answer) -> bool:
        """Follow the lifecycle table with a host that has no boot attempt under way; True if its state changed.

        What it asks for after an attempt begins a new story, so a trigger that means nothing where that ended is
        taken as from a host just discovered. ``ARM`` is no such: it is told with every request.
        """
        if trigger is Trigger.ARM and row.state not in (State.DISCOVERED, State.LOCAL):
            return False
        target = follow(row.state, trigger)
        if isinstance(target, Refusal):
            target = follow(State.DISCOVERED, trigger)
        if isinstance(target, Refusal) or target is row.state:
            return False
        image = "" if target is State.LOCAL else answer.image
        self._store.save_host(replace(row, state=target, since=self._clock(), attempt="", image=image))
        return True

    def wait_for(self, row: HostRow, answer: Answer) -> bool:
        """The host has an image and got nothing: it is waited for, whatever it was. True if that is new."""
        if row.state is State.ARMED:
            return False
        now, image = self._clock(), answer.image
        self._store.save_host(replace(row, state=State.ARMED, since=now, attempt="", image=image))
        return True

    def recount(self) -> None:
        """The site's hosts changed: count the strangers again."""
        self._strangers = self._store.strangers()

    def _make_room(self, name: str) -> None:
        if self._strangers < MAX_STRANGERS:
            self._strangers += 1
            return
        error = TooManyStrangersError(name)
        if self._quiet.once(self._clock(), "full"):
            self._log.warning("stranger not recorded", reason=str(error))
        raise error

    def _save(self, before: HostRow | None, after: HostRow) -> HostRow:
        if after != before:  # a host asks often and says the same, and every write waits for the disk
            self._store.save_host(after)
        return after
