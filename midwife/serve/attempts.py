"""Boot attempts as they happen: joins what the protocols saw, the lifecycle table and the store.

Runs on the control process' event loop only (no locks). An attempt that is under way is kept in memory and
written at every change of state; progress in between is written at most twice a second, by ``tick``. Whatever
comes in is a packet that anybody may have sent: nothing here may grow with their number.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from midwife.core import token as tokens
from midwife.core.decide import Action, Answer
from midwife.core.facts import Facts
from midwife.core.lifecycle import OVER, STUCK, UNDER_WAY, Refusal, State, Trigger, follow
from midwife.images.boot.library import BootImage
from midwife.serve.hostrows import HostRows, TooManyStrangersError
from midwife.serve.timeline import Timeline
from midwife.serve.trip import Trip
from midwife.site.model import Deadlines
from midwife.store.records import Attempt, HostRow
from midwife.store.store import Store

__all__ = ["Attempts", "Grant"]


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to boot once: what goes into the rendered configuration."""

    attempt: str
    token: str = field(repr=False)
    flagged: bool = False
    """Another address fetched this configuration first; this token is worth nothing."""


class Attempts:
    """Every host's present attempt."""

    def __init__(
        self, store: Store, secret: bytes, deadlines: Deadlines, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._secret = secret
        self._clock = clock
        self._live: dict[str, Trip] = {}
        self._by_attempt: dict[str, str] = {}
        self.deadlines = deadlines
        self.on_over: Callable[[str, str], None] = lambda _attempt, _why: None
        """Told the id of an attempt whose run is to end, and why: its host started over, or it is late."""
        self._rows = HostRows(store, clock)
        self._timeline = Timeline(store, clock)
        self._log = structlog.get_logger().bind(part="boot")

    # what protocols tell

    def seen(self, answer: Answer, facts: Facts, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """A machine asked for something: a line in the timeline, and a row for a stranger if there is room."""
        trigger = {Action.WAIT: Trigger.SEEN, Action.BOOT: Trigger.ARM}.get(answer.action)
        self._note(answer, facts, trigger, kind, text, data)

    def refused(self, answer: Answer, facts: Facts, address: str, text: str) -> None:
        """Its configuration cannot be had: what the machine did before is over, so that ``status`` says why.

        Another address changes nothing while the host boots, and a reboot step has a deadline of its own.
        """
        try:
            row = self._rows.meet(answer, facts)
        except TooManyStrangersError:
            return
        live = self._current(row)
        if live and live.attempt.state in UNDER_WAY:
            if not live.rebooting and not live.is_foreign_to(address, self._clock()):
                self.move(row.id, Trigger.FAIL, "no-config", text)
                self.on_over(live.attempt.id, text)
                return
        elif live and live.attempt.error == text:
            return
        elif self._rows.wait_for(row, answer):
            self._forget(row.id)
        self.event(row.id, "no-config", text)

    def local(self, answer: Answer, facts: Facts, path: str) -> None:
        """The machine was told to boot from its own disk."""
        self._note(answer, facts, Trigger.LOCAL, "local", f"told to boot from its own disk ({path})", {})

    def begin(self, answer: Answer, facts: Facts, image: BootImage, address: str, via: str) -> str:
        """The first packet of a trip, or a later one of the same trip; gives the attempt's id.

        No token goes with it, so any address may ask; but only the attempt's own address may start it over.
        Raises TooManyStrangersError.
        """
        row = self._rows.meet(answer, facts)
        live = self._current(row)
        if live and live.starts_over() and live.is_foreign_to(address, self._clock()):
            self._flag(live, address, via)
            return live.attempt.id
        if live is None or live.starts_over():
            live = self._start(row, answer, image, f"{image.name}, first seen by {via}")
        live.touched = self._clock()
        return live.attempt.id

    def grant(self, answer: Answer, facts: Facts, image: BootImage, address: str, via: str) -> Grant:
        """The configuration with the token is fetched from this address.

        The first address that fetches it owns the attempt. Another one, while the attempt is under way, gets
        a token that will not be accepted, and the timeline says so. Raises TooManyStrangersError.
        """
        row = self._rows.meet(answer, facts)
        live = self._current(row)
        if live and live.is_foreign_to(address, self._clock()):
            self._flag(live, address, via)
            owner = live.attempt.id
            return Grant(owner, tokens.mint(self._secret, owner, address), flagged=True)
        if live is None or live.starts_over() or (live.attempt.address not in ("", address)):
            live = self._start(row, answer, image, f"{image.name}, first seen by {via}")
        live.touched = self._clock()
        if live.attempt.state is State.LOADING:
            current = replace(
                live.attempt, address=address, answer=_described(answer, image), files=_sizes(image)
            )
            if current != live.attempt:
                live.attempt = current
                self._save(live)
        again = ", once more for its reboot step" if live.rebooting else ""
        text = f"{via} rendered for {address}{again}"
        self.event(row.id, "config", text, {"image": image.name})
        return Grant(live.attempt.id, tokens.mint(self._secret, live.attempt.id, address))

    def served(self, attempt: str, name: str, sent: int, *, complete: bool, proto: str, client: str) -> None:
        """Bytes of an image's file arrived at a client."""
        live = self._find(attempt)
        if live is None:
            return
        live.touched = self._clock()
        known = live.attempt.files.get(name)
        if known is None:
            if complete and name not in live.loaders:
                live.loaders.add(name)
                self.event(live.attempt.host, "loader", f"{name} fetched by {client} over {proto}")
            return
        before = live.attempt.sent.get(name, 0)
        if not live.attempt.sent:
            self.event(live.attempt.host, "loading", f"first file {name}, over {proto} to {client}")
        if sent > before or name not in live.attempt.sent:
            live.attempt = replace(live.attempt, sent={**live.attempt.sent, name: min(sent, known)})
            live.moved = self._clock()
            live.dirty = True
        if complete and live.attempt.loaded and live.attempt.state is State.LOADING:
            total = sum(live.attempt.files.values())
            took = self._clock() - live.attempt.since
            text = f"all {len(live.attempt.files)} files served, {total / 1e6:.1f} MB in {took:.1f} s"
            self.move(live.attempt.host, Trigger.LOADED, "booted", text)

    # what happens later

    def move(
        self,
        host: str,
        trigger: Trigger,
        kind: str,
        text: str,
        data: Mapping[str, Any] | None = None,
        *,
        attempt: str = "",
    ) -> bool:
        """Follow the lifecycle table and write the timeline; False if the state does not take the trigger.

        ``attempt``: only if that is still the host's present one (a run that ends late must not move the next).
        """
        row = self._store.host(host)
        live = self._current(row) if row else None
        if live is None or (attempt and live.attempt.id != attempt):
            return False
        target = follow(live.attempt.state, trigger)
        if isinstance(target, Refusal):
            self._log.info("refused", host=host, attempt=live.attempt.id, reason=str(target))
            return False
        now = self._clock()
        if target is not live.attempt.state:
            failed = target is State.FAILED
            live.attempt = replace(
                live.attempt,
                state=target,
                since=now,
                deadline=self._deadline(target, now),
                ended=now if target in OVER else None,
                error=text if failed else "",
            )
            live.touched = now
            self._save(live)
        self._timeline.tell(host, live.attempt.id, kind, text, data)
        return True

    def callback(self, host: str, pinned: tuple[str, ...], facts: Facts, text: str, client: str) -> bool:
        """An accepted call: remember its keys and facts, move on. False if it starts nothing.

        The keys are those of the first call; whoever got hold of the token later cannot change them.
        """
        row = self._store.host(host)
        live = self._current(row) if row else None
        if row is None or live is None:
            return False
        self._rows.learn(row, facts)
        state = live.attempt.state
        first = state in (State.LOADING, State.BOOTED) or (
            # It came after all. A customization that failed is not begun again by a host that repeats itself.
            state is State.FAILED and self._store.run(live.attempt.id) is None
        )
        changes: dict[str, Any] = {}
        if first:
            changes["answer"] = {**live.attempt.answer, "caller": client}
        if pinned and (first or live.rebooting or not live.attempt.pinned):
            changes["pinned"] = pinned
        elif pinned and set(pinned) != set(live.attempt.pinned):
            self.event(host, "callback-keys", f"{client} now names other SSH host keys: they are not taken")
        if changes:
            live.attempt = replace(live.attempt, **changes)
            self._save(live)
        if not first:
            self.event(host, "callback-again", text)
            return False
        return self.move(host, Trigger.CALL, "callback", text)

    def vouch(self, answer: Answer, facts: Facts, pinned: tuple[str, ...], address: str) -> Attempt:
        """A person says: this host is up, at this address, with these SSH host keys. It counts as called back.

        What was under way is over. Raises TooManyStrangersError.
        """
        row = self._rows.meet(answer, facts)
        live = self._start(row, answer, None, f"a host that is up at {address}, by a person's word")
        live.attempt = replace(live.attempt, address=address)  # nobody at another one starts it over
        text = f"taken as called back: a person says that it is up at {address}"
        self.callback(row.id, pinned, Facts(), text, address)
        return live.attempt

    def rebooting(self, attempt: str, on: bool) -> None:
        """A reboot step runs (or ended): the host's next boot is part of this attempt."""
        if live := self._find(attempt):
            live.rebooting = on

    def current(self, host: str) -> Attempt | None:
        """The host's present or last attempt."""
        row = self._store.host(host)
        live = self._current(row) if row else None
        return live.attempt if live else None

    def facts(self, host: str) -> Facts:
        """What is known of the host."""
        row = self._store.host(host)
        return row.facts if row else Facts()

    def rename(self, old: str, new: str) -> None:
        """A stranger got a name in the site, or lost it. A boot of its own goes before one of the stranger's."""
        self._store.rename_host(old, new)
        live = self._live.pop(old, None)
        row = self._store.host(new)
        if live is None or row is None:
            return
        if row.attempt == live.attempt.id:
            live.attempt = replace(live.attempt, host=new)
            self._live[new] = live
            self._by_attempt[live.attempt.id] = new
        else:
            self._by_attempt.pop(live.attempt.id, None)

    def recount(self) -> None:
        """The site's hosts changed: count again the machines that it does not name."""
        self._rows.recount()

    def find(self, attempt: str) -> Attempt | None:
        """An attempt by its id, whether it is the host's present one or not."""
        live = self._find(attempt)
        return live.attempt if live else self._store.attempt(attempt)

    def of_address(self, address: str) -> Attempt | None:
        """The attempt that fetched its configuration from this address; if several did, one that is under way,
        and of these the latest. What was over long ago does not count: the address may be another host's."""
        found = [live for live in self._live.values() if address and live.attempt.address == address]
        latest = max(found, key=lambda live: (live.attempt.state in UNDER_WAY, live.touched), default=None)
        return latest.attempt if latest else None

    def event(self, host: str, kind: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """One line of the timeline, and of the log, unless it was said just now."""
        live = self._live.get(host)
        self._timeline.mention(host, live.attempt.id if live else "", kind, text, data)

    def tick(self) -> None:
        """Write progress down and declare stuck what is past its deadline. Called twice a second."""
        now = self._clock()
        for host, live in list(self._live.items()):
            if live.dirty:
                self._store.save_attempt(live.attempt)
                live.dirty = False
            attempt = live.attempt
            if live.is_history(now):
                self._forget(host)
            elif live.is_late(now):
                text = STUCK.get(attempt.state, "took too long")
                if attempt.state is State.LOADING and attempt.sent:
                    text = f"{attempt.complete} of {len(attempt.files)} files, then it {text}"
                if self.move(host, Trigger.DEADLINE, "stuck", text):
                    self.on_over(attempt.id, text)

    def recover(self) -> None:
        """After a restart: attempts that were under way are under way again."""
        for row in self._store.hosts():
            if row.state in UNDER_WAY:
                self._current(row)

    # inner workings

    def _note(
        self,
        answer: Answer,
        facts: Facts,
        trigger: Trigger | None,
        kind: str,
        text: str,
        data: Mapping[str, Any],
    ) -> None:
        try:
            row = self._rows.meet(answer, facts)
        except TooManyStrangersError:
            return
        if trigger and row.state not in UNDER_WAY and self._rows.move(row, trigger, answer):
            self._forget(row.id)
        self.event(row.id, kind, text, data)

    def _current(self, row: HostRow) -> Trip | None:
        live = self._live.get(row.id)
        if live is None and row.attempt and (stored := self._store.attempt(row.attempt)):
            live = self._live[row.id] = Trip(stored, self._clock(), self._clock())
            self._by_attempt[stored.id] = row.id
        return live

    def _find(self, attempt: str) -> Trip | None:
        live = self._live.get(self._by_attempt.get(attempt, ""))
        return live if live and live.attempt.id == attempt else None

    def _forget(self, host: str) -> None:
        if live := self._live.pop(host, None):
            self._by_attempt.pop(live.attempt.id, None)

    def _flag(self, live: Trip, address: str, via: str) -> None:
        owner = live.attempt
        text = f"{via} fetched from {address} while {owner.address} is booting: its token is worth nothing"
        self.event(owner.host, "flagged", text, {"address": address})

    def _start(self, row: HostRow, answer: Answer, image: BootImage | None, told: str) -> Trip:
        old = self._live.get(row.id)
        now = self._clock()
        if old:
            self._forget(row.id)
            if old.attempt.state not in OVER:
                why = "the host started over"
                text = f"started over while {old.attempt.state}"
                self._timeline.mention(row.id, old.attempt.id, "reset", text)
                self._store.save_attempt(replace(old.attempt, state=State.FAILED, ended=now, error=why))
                self.on_over(old.attempt.id, why)
        state = State.LOADING
        attempt = Attempt(
            secrets.token_hex(4),
            row.id,
            state,
            now,
            now,
            deadline=self._deadline(state, now),
            answer=_described(answer, image),
            files=_sizes(image) if image else {},
        )
        live = self._live[row.id] = Trip(attempt, now, now)
        self._by_attempt[attempt.id] = row.id
        self._save(live)
        self.event(row.id, "boot", f"boot attempt {attempt.id} of {told}")
        return live

    def _save(self, live: Trip) -> None:
        row = self._store.host(live.attempt.host)
        if row:
            row = replace(
                row,
                state=live.attempt.state,
                since=live.attempt.since,
                attempt=live.attempt.id,
                image=str(live.attempt.answer.get("image", "")),
            )
        self._store.save_attempt(live.attempt, row)
        live.dirty = False

    def _deadline(self, state: State, now: float) -> float | None:
        allowed = {
            State.LOADING: self.deadlines.loading,
            State.BOOTED: self.deadlines.booted,
            State.CALLED_BACK: self.deadlines.called_back,
            State.CUSTOMIZING: self.deadlines.customizing,
        }.get(state)
        return now + allowed if allowed else None


def _described(answer: Answer, image: BootImage | None) -> dict[str, Any]:
    return {
        "image": image.name if image else "",
        "mode": answer.mode,
        "configuration": answer.configuration,
        "location": answer.location,
        "script-bundle": answer.script_bundle,
        "given-by": dict(answer.given_by),
        "unsettled": {kind: list(names) for kind, names in answer.unsettled.items()},
        "reasons": list(answer.reasons),
    }


def _sizes(image: BootImage) -> dict[str, int]:
    """The files whose arrival means that the image is loaded: kernel and modules."""
    return {name: image.files[name].size for name in image.loads}
