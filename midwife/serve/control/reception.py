"""Who calls? Receives callbacks, checks what they prove, and moves the host on.

A token proves that the caller holds the configuration that we rendered for this attempt, at the address that
fetched it. Everything else that a caller says is a claim: it is written down and shown, and causes nothing
unless the site allows it (``callback.unauthenticated: push``), and then never anything with a secret in it.
"""

import time
from collections.abc import Callable
from typing import Protocol

from midwife.core import token as tokens
from midwife.core.decide import Answer
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.serve.attempts import Attempts
from midwife.serve.callback import Call, facts_of
from midwife.site.model import Site
from midwife.store.records import Attempt
from midwife.wire.callback import CallbackMessage, Phase, Reply, Verdict

__all__ = ["Reception"]

_STARTS = frozenset({State.LOADING, State.BOOTED, State.FAILED})
"""Where a callback starts something, and a token must be fresh. Later calls of the same boot (a reboot step may
come after hours) are only acknowledged."""


class _Runs(Protocol):
    def start(self, attempt: Attempt, facts: Facts, client: str, *, trusted: bool) -> None: ...


class Reception:
    """The function behind the callback listener."""

    def __init__(
        self,
        site: Site,
        attempts: Attempts,
        runs: _Runs,
        decide: Callable[[Facts], Answer],
        secret: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.site = site
        self.decide = decide
        self._attempts = attempts
        self._runs = runs
        self._secret = secret
        self._clock = clock

    def handle(self, call: Call) -> Reply:
        """One call, whatever it came by."""
        if call.message is None:
            return self._bare(call)
        if call.message.token:
            return self._with_token(call, call.message)
        return self._claimed(call, call.message)

    def _with_token(self, call: Call, message: CallbackMessage) -> Reply:
        attempt = self._attempts.find(tokens.attempt_of(message.token))
        if attempt is None:
            return self._refuse(call, "", "its token names no boot attempt of this service; boot it again")
        if why := self._doubt(call, message, attempt):
            return self._refuse(call, attempt.host, why)
        facts = facts_of(message)
        if message.phase is not Phase.BOOTED:
            self._attempts.event(
                attempt.host, f"installer-{message.phase}", f"installer says {message.phase}"
            )
            return Reply(Verdict.OK, attempt=attempt.id, state=attempt.state.value)
        told = f"called back from {call.client} over {call.transport}"
        if facts.version:
            told += f": {facts.version}"
        keys = tuple(str(key) for key in message.hostkeys)
        if self._attempts.callback(attempt.host, keys, facts, told, call.client):
            if not keys:
                text = "told no SSH host key: nothing that needs a secret can be pushed"
                self._attempts.event(attempt.host, "callback", text)
            self._push(call, attempt, facts, trusted=True)
        now = self._attempts.current(attempt.host) or attempt
        return Reply(Verdict.OK, attempt=attempt.id, state=now.state.value)

    def _doubt(self, call: Call, message: CallbackMessage, attempt: Attempt) -> str:
        """Why this token proves nothing here, "" if it does."""
        if not tokens.verify(self._secret, message.token, attempt.id, attempt.address):
            return (
                "its token was not made for the address that fetched the configuration: "
                "it was copied, or the configuration was fetched by somebody else"
            )
        current = self._attempts.current(attempt.host)
        if current is None or current.id != attempt.id:
            return f"its token is of boot attempt {attempt.id}, but the host has booted again since"
        host = next((host for host in self.site.hosts if host.name == attempt.host), None)
        expected = {attempt.address, host.address if host and host.address else attempt.address}
        policy = self.site.main.callback
        if policy.address == "exact" and call.client not in expected:
            return (
                f"its token belongs to {' or '.join(sorted(expected))}. If the system gets another lease than "
                "its firmware, give the host an address: in its host file, or set callback.address: any"
            )
        if current.state in _STARTS and self._is_old(attempt):
            lifetime = policy.token_lifetime
            return f"its token is older than {lifetime / 60:.0f} minutes (callback.token-lifetime)"
        return ""

    def _is_old(self, attempt: Attempt) -> bool:
        return self._clock() - attempt.started > self.site.main.callback.token_lifetime

    def _claimed(self, call: Call, message: CallbackMessage) -> Reply:
        """A message without a token: a host that was not booted by us, or somebody who pretends."""
        facts = facts_of(message)
        answer = self.decide(facts)
        text = f"called from {call.client} over {call.transport} without a token: recorded, nothing is pushed"
        attempt = self._attempts.current(answer.name) if answer.host else None
        if attempt and self._is_allowed(call, attempt) and message.phase is Phase.BOOTED:
            text = f"called from {call.client} over {call.transport} without a token"
            self._attempts.event(answer.name, "callback-unauthenticated", text)
            told = f"taken for {answer.name} by its address"
            if self._attempts.callback(answer.name, (), facts, told, call.client):
                self._push(call, attempt, facts, trusted=False)
            return Reply(Verdict.OK, attempt=attempt.id)
        if answer.host or not facts.macs:
            # A claim: it is shown, and the facts of a host that the site names stay as they are.
            host = answer.name if answer.host else ""
            self._attempts.event(
                host, "callback-unauthenticated", text, {"by": call.client, "claims": facts.to_json()}
            )
        else:
            self._attempts.seen(answer, facts, "callback-unauthenticated", text, {"by": call.client})
        return Reply(Verdict.OK, state="recorded")

    def _is_allowed(self, call: Call, attempt: Attempt) -> bool:
        """Whether the site lets this caller have a push without proof: it has the address, and booted lately."""
        policy = self.site.main.callback
        return (
            policy.unauthenticated == "push" and attempt.address == call.client and not self._is_old(attempt)
        )

    def _bare(self, call: Call) -> Reply:
        """ESXi's own PBHOST support: a connection without a word. Only the address says who it is."""
        attempt = self._attempts.of_address(call.client)
        host = attempt.host if attempt else ""
        if attempt and self._is_allowed(call, attempt):
            told = f"connected from {call.client} without a message"
            if self._attempts.callback(host, (), Facts(), told, call.client):
                self._push(call, attempt, Facts(), trusted=False)
        else:
            who = f"taken for {host} by its address" if host else "no host under way has that address"
            text = f"connected from {call.client} without a message ({who}): recorded, nothing is pushed"
            self._attempts.event(host, "callback-bare", text)
        return Reply(Verdict.OK)

    def _push(self, call: Call, attempt: Attempt, facts: Facts, *, trusted: bool) -> None:
        current = self._attempts.current(attempt.host) or attempt
        known = self._attempts.facts(attempt.host).merged(facts)
        self._runs.start(current, known, call.client, trusted=trusted)

    def _refuse(self, call: Call, host: str, reason: str) -> Reply:
        text = f"callback from {call.client} refused: {reason}"
        self._attempts.event(host, "callback-refused", text, {"by": call.client})
        return Reply(Verdict.REFUSED, reason=reason[:200])
