"""``midwife push``: a person says that a host is up, and has it customized now.

For hosts that cannot call: installed ones under Secure Boot, where nothing of ours runs, and those whose
customization failed. The person's word takes the place of the callback's token, and the host keys that they name
that of its pinned keys; it comes over the control socket, which only the service's own user can open.
"""

import ipaddress
from collections.abc import Callable

from midwife.core.decide import Answer, facts_of
from midwife.core.facts import Facts
from midwife.customize.hostkey import Pins
from midwife.serve.attempts import Attempts
from midwife.serve.control.runs import Runs
from midwife.serve.messages import Push, Pushed
from midwife.site.model import Host, Site

__all__ = ["Pushes"]


class Pushes:
    """Answers ``midwife push``."""

    def __init__(self, site: Site, attempts: Attempts, runs: Runs, decide: Callable[[Facts], Answer]) -> None:
        self.site = site
        self.decide = decide
        self._attempts = attempts
        self._runs = runs

    def handle(self, asked: Push) -> Pushed:
        """Start the run, or say why not."""
        try:
            return Pushed(asked.id, True, self._start(asked))
        except _Refused as refusal:
            return Pushed(asked.id, False, str(refusal))

    def _start(self, asked: Push) -> str:
        host = next((host for host in self.site.hosts if host.name == asked.host), None)
        if host is None:
            raise _Refused(f"no host file is called {asked.host!r}; a host needs one to be pushed to")
        before = self._attempts.current(host.name)
        facts = self._attempts.facts(host.name)
        answer = self.decide(facts_of(host).merged(facts))
        if not answer.configuration:
            raise _Refused(f"{host.name} has no configuration: there is nothing to push")
        address = self._address(asked, host, str(before.answer.get("caller") or "") if before else "")
        keys = tuple(asked.keys) or (before.pinned if before else ())
        if not keys:
            raise _Refused(
                f"no SSH host key of {host.name} is known, and without one midwife pushes nothing: read it off "
                "the host's console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and give it with --host-key"
            )
        try:
            Pins.parse(keys)
        except ValueError as error:
            raise _Refused(f"{error}; write it as SHA256:… or as ssh-ed25519:AAAA…") from None
        attempt = self._attempts.vouch(answer, facts, keys, address)
        self._runs.start(attempt, facts, address, trusted=True)
        return f"configuration {answer.configuration} is pushed to {host.name} at {address}"

    @staticmethod
    def _address(asked: Push, host: Host, caller: str) -> str:
        address = asked.address or host.address or caller
        if not address:
            raise _Refused(f"where is {host.name}? Give --address, or write address: into its host file")
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            raise _Refused(f"{address!r} is not an IPv4 or IPv6 address") from None


class _Refused(Exception):
    """Why nothing is pushed, for the person who asked."""
