"""Boot attempts as they happen: joins what the protocols saw, the lifecycle table and the store.

Runs on the control process' event loop only (no locks). An attempt that is under way is kept in memory and
written at every change of state; progress in between is written at most twice a second, by ``flush``.
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
from midwife.core.lifecycle import STUCK, Refusal, State, Trigger, follow
from midwife.images.library import BootImage
from midwife.site.model import Deadlines
from midwife.store.records import Attempt, HostRow
from midwife.store.store import Store

__all__ = ["Attempts", "Grant", "TooManyStrangersError"]

_OVER = frozenset({State.READY, State.FAILED, State.LOCAL})
_QUIET = 60.0
"""Seconds without a sign of life after which another address may take an attempt over that loaded nothing yet."""


_MAX_STRANGERS = 10_000
"""Machines that no host file names; a boot network is hostile, and MAC addresses cost nothing to make up."""


class TooManyStrangersError(Exception):
    """A machine nobody knows asked, and no more of them are written down."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not recorded: {_MAX_STRANGERS} unknown machines are already; "
            "somebody may be making up MAC addresses"
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to boot once: what goes into the rendered configuration."""

    attempt: str
    token: str
    flagged: bool = False
    """Another address fetched this configuration first; this token is worth nothing."""


@dataclass(slots=True)
class _Live:
    """An attempt under way, with what need not survive a restart."""

    attempt: Attempt
    touched: float
    dirty: bool = False
    rebooting: bool = False
    """A reboot step is running: the next boot belongs to this attempt."""
    loaders: set[str] = field(default_factory=set)


class Attempts:
    """Every host's present attempt."""

    def __init__(
        self, store: Store, secret: bytes, deadlines: Deadlines, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._secret = secret
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._by_attempt: dict[str, str] = {}
        self.deadlines = deadlines
        self.on_reset: Callable[[str], None] = lambda _attempt: None
        """Told the id of an attempt that ended because its host started over."""
        self._strangers = sum(not row.known for row in store.hosts())
        self._log = structlog.get_logger().bind(part="boot")

    # what protocols tell

    def seen(self, answer: Answer, facts: Facts, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """A machine asked for something; the timeline gets a line, an unknown machine gets a row."""
        row = self._host(answer, facts)
        if answer.action is Action.WAIT and not self._under_way(row.id):
            self._move_host(row, Trigger.SEEN)
        self.event(row.id, kind, text, data)

    def local(self, answer: Answer, facts: Facts, path: str) -> None:
        """The machine was told to boot from its own disk."""
        row = self._host(answer, facts)
        if not self._under_way(row.id):
            self._live.pop(row.id, None)
            self._store.save_host(replace(row, state=State.LOCAL, since=self._clock(), attempt="", image=""))
        self.event(row.id, "local", f"told to boot from its own disk ({path})")

    def begin(self, answer: Answer, facts: Facts, image: BootImage, via: str) -> str:
        """The first packet of a trip, or a later one of the same trip; gives the attempt's id."""
        row = self._host(answer, facts)
        live = self._current(row)
        if live is None or self._is_new_trip(live):
            live = self._start(row, answer, image, via)
        live.touched = self._clock()
        return live.attempt.id

    def grant(self, answer: Answer, facts: Facts, image: BootImage, address: str, via: str) -> Grant:
        """The configuration with the token is fetched from this address.

        The first address that fetches it owns the attempt. Another one, while the attempt is under way, gets
        a token that will not be accepted, and the timeline says so.
        """
        row = self._host(answer, facts)
        live = self._current(row)
        if live and live.attempt.address and live.attempt.address != address and self._is_guarded(live):
            owner = live.attempt
            text = (
                f"{via} fetched from {address} while {owner.address} is booting: its token is worth nothing"
            )
            self.event(row.id, "flagged", text, {"address": address})
            return Grant(owner.id, tokens.mint(self._secret, owner.id, address), flagged=True)
        if live is None or self._is_new_trip(live) or (live.attempt.address not in ("", address)):
            live = self._start(row, answer, image, via)
        live.touched = self._clock()
        if live.attempt.address != address:
            live.attempt = replace(live.attempt, address=address, files=_sizes(image))
            self._save(live)
        self.event(row.id, "config", f"{via} rendered for {address}", {"image": image.name})
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
        if sent > before:
            live.attempt = replace(live.attempt, sent={**live.attempt.sent, name: min(sent, known)})
            live.dirty = True
        if complete and live.attempt.loaded and live.attempt.state is State.LOADING:
            total = sum(live.attempt.files.values())
            took = self._clock() - live.attempt.since
            text = f"all {len(live.attempt.files)} files served, {total / 1e6:.1f} MB in {took:.1f} s"
            self.move(live.attempt.host, Trigger.LOADED, "booted", text)

    # what happens later

    def move(
        self, host: str, trigger: Trigger, kind: str, text: str, data: Mapping[str, Any] | None = None
    ) -> bool:
        """Follow the lifecycle table and write the timeline; False if the state does not take the trigger."""
        row = self._store.host(host)
        live = self._live.get(host) or (self._current(row) if row else None)
        if row is None or live is None:
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
                ended=now if target in _OVER else None,
                error=text if failed else "",
            )
            self._save(live)
        self.event(host, kind, text, data)
        return True

    def callback(self, host: str, pinned: tuple[str, ...], facts: Facts, text: str) -> bool:
        """An authenticated call: remember its keys and facts, move on. False if it changes nothing."""
        row = self._store.host(host)
        live = self._current(row) if row else None
        if row is None or live is None:
            return False
        self._store.save_host(replace(row, facts=row.facts.merged(facts)))
        first = live.attempt.state in (State.LOADING, State.BOOTED, State.FAILED)
        if pinned:
            live.attempt = replace(live.attempt, pinned=pinned)
            self._save(live)
        if not first:
            self.event(host, "callback-again", text)
            return False
        return self.move(host, Trigger.CALL, "callback", text)

    def rebooting(self, host: str, on: bool) -> None:
        """A reboot step runs (or ended): the host's next boot is part of this attempt."""
        if live := self._live.get(host):
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
        """A stranger got a name in the site."""
        self._store.rename_host(old, new)
        if live := self._live.pop(old, None):
            live.attempt = replace(live.attempt, host=new)
            self._live[new] = live
            self._by_attempt[live.attempt.id] = new

    def find(self, attempt: str) -> Attempt | None:
        """An attempt by its id, whether it is the host's present one or not."""
        live = self._find(attempt)
        return live.attempt if live else self._store.attempt(attempt)

    def of_address(self, address: str) -> Attempt | None:
        """The attempt under way that fetched its configuration from this address, the latest if several."""
        found = [live for live in self._live.values() if live.attempt.address == address]
        return max(found, key=lambda live: live.touched).attempt if found else None

    def event(self, host: str, kind: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """One line of the timeline, and of the log."""
        live = self._live.get(host)
        attempt = live.attempt.id if live else ""
        self._store.add_event(kind, text, host=host, attempt=attempt, data=data, at=self._clock())
        self._log.info(kind, host=host, attempt=attempt, text=text)

    def tick(self) -> None:
        """Write progress down and declare stuck what is past its deadline. Called twice a second."""
        now = self._clock()
        for host, live in list(self._live.items()):
            if live.dirty:
                self._store.save_attempt(live.attempt)
                live.dirty = False
            deadline = live.attempt.deadline
            moving = live.attempt.state is State.LOADING and now - live.touched < _QUIET
            if deadline and now > deadline and not moving:
                text = STUCK.get(live.attempt.state, "took too long")
                if live.attempt.state is State.LOADING and live.attempt.sent:
                    text = f"{live.attempt.complete} of {len(live.attempt.files)} files, then it {text}"
                self.move(host, Trigger.DEADLINE, "stuck", text)

    def recover(self) -> None:
        """After a restart: attempts that were under way are under way again."""
        for row in self._store.hosts():
            if row.attempt:
                self._current(row)

    # inner workings

    def _host(self, answer: Answer, facts: Facts) -> HostRow:
        """The host's row with these facts merged in; made if it is new."""
        row = self._store.host(answer.name)
        if row is None:
            if answer.host is None:
                self._strangers += 1
                if self._strangers > _MAX_STRANGERS:
                    raise TooManyStrangersError(answer.name)
            state = State.ARMED if answer.action is Action.BOOT else State.DISCOVERED
            row = HostRow(
                answer.name, answer.host is not None, facts, state, self._clock(), "", answer.image, ""
            )
        else:
            row = replace(row, facts=row.facts.merged(facts), known=answer.host is not None)
        self._store.save_host(row)
        return row

    def _current(self, row: HostRow) -> _Live | None:
        live = self._live.get(row.id)
        if live is None and row.attempt and (stored := self._store.attempt(row.attempt)):
            live = self._live[row.id] = _Live(stored, self._clock())
            self._by_attempt[stored.id] = row.id
        return live

    def _find(self, attempt: str) -> _Live | None:
        live = self._live.get(self._by_attempt.get(attempt, ""))
        return live if live and live.attempt.id == attempt else None

    def _under_way(self, host: str) -> bool:
        live = self._live.get(host)
        return live is not None and live.attempt.state not in _OVER

    def _is_guarded(self, live: _Live) -> bool:
        """Whether the attempt is far enough, or fresh enough, that no other address may take it over."""
        if live.attempt.state in _OVER:
            return False
        return bool(live.attempt.sent) or self._clock() - live.touched < _QUIET

    def _is_new_trip(self, live: _Live) -> bool:
        """Whether a request for a configuration means that the machine started over.

        mboot fetches boot.cfg twice and loaders chain to each other, all before the first file of the image;
        whoever asks for a configuration after that was reset.
        """
        if live.attempt.state is State.CUSTOMIZING and live.rebooting:
            return False
        return live.attempt.state is not State.LOADING or bool(live.attempt.sent)

    def _start(self, row: HostRow, answer: Answer, image: BootImage, via: str) -> _Live:
        old = self._live.get(row.id)
        now = self._clock()
        attempt = Attempt(
            secrets.token_hex(4),
            row.id,
            State.LOADING,
            now,
            now,
            deadline=self._deadline(State.LOADING, now),
            answer={
                "image": image.name,
                "mode": answer.mode,
                "configuration": answer.configuration,
                "reasons": list(answer.reasons),
            },
            files=_sizes(image),
        )
        if old:
            self._by_attempt.pop(old.attempt.id, None)
            if old.attempt.state not in _OVER:
                self.event(row.id, "reset", f"started over while {old.attempt.state}")
                ended = replace(old.attempt, state=State.FAILED, ended=now, error="the host started over")
                self._store.save_attempt(ended)
                self.on_reset(old.attempt.id)
        live = self._live[row.id] = _Live(attempt, now)
        self._by_attempt[attempt.id] = row.id
        self._save(live)
        self.event(row.id, "boot", f"boot attempt {attempt.id} of {image.name}, first seen by {via}")
        return live

    def _save(self, live: _Live) -> None:
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

    def _move_host(self, row: HostRow, trigger: Trigger) -> None:
        """A host without an attempt under way."""
        target = follow(row.state, trigger)
        if isinstance(target, Refusal):
            target = State.DISCOVERED
        if target is not row.state:
            self._live.pop(row.id, None)
            self._store.save_host(replace(row, state=target, since=self._clock(), attempt=""))

    def _deadline(self, state: State, now: float) -> float | None:
        allowed = {
            State.LOADING: self.deadlines.loading,
            State.BOOTED: self.deadlines.booted,
            State.CALLED_BACK: self.deadlines.called_back,
            State.CUSTOMIZING: self.deadlines.customizing,
        }.get(state)
        return now + allowed if allowed else None


def _sizes(image: BootImage) -> dict[str, int]:
    """The files whose arrival means that the image is loaded: kernel and modules."""
    return {name: image.files[name].size for name in image.loads}
