"""What the data plane says: one log line per event for people, one Report per event for the control process.

Trouble that strangers can cause at will (malformed datagrams, floods) is spoken of once per period and
client.
"""

from collections.abc import Callable

import structlog

from midwife.serve.messages import Report
from midwife.serve.quiet import Quiet
from midwife.serve.tftp.transfer import Ending, Job

__all__ = ["Journal"]

_PERIOD = 10.0  # seconds
_LINES_PER_PERIOD = 100


class Journal:
    """``send`` carries a Report to the control process."""

    def __init__(self, send: Callable[[Report], None]) -> None:
        self._send = send
        self._quiet = Quiet(_PERIOD, most=_LINES_PER_PERIOD)
        self.log = structlog.get_logger().bind(proto="tftp")

    def report(
        self,
        kind: str,
        client: str,
        *,
        name: str = "",
        attempt: str = "",
        sent: int = 0,
        size: int = 0,
        seconds: float = 0.0,
        detail: str = "",
    ) -> None:
        """To the control process only; the fields are those of ``messages.Report``."""
        self._send(Report(kind, "tftp", client, name, attempt, sent, size, round(seconds, 4), detail))

    def ended(self, job: Job, ending: Ending, sent: int, seconds: float) -> None:
        """A transfer is over, one way or the other."""
        options = " ".join(f"{name}={value}" for name, value in job.terms.granted)
        bound = self.log.bind(client=job.client, attempt=job.attempt, name=job.name, options=options)
        say = {"served": bound.info, "probe": bound.debug}.get(ending.kind, bound.warning)
        say(ending.kind, sent=sent, size=job.source.size, seconds=round(seconds, 3), detail=ending.detail)
        self.report(
            ending.kind, job.client, name=job.name, attempt=job.attempt,
            sent=sent, size=job.source.size, seconds=seconds, detail=ending.detail,
        )  # fmt: skip

    def malformed(self, client: str, reason: str, now: float) -> None:
        """A datagram that is no request; at most one line and one report per client and period."""
        held = self._quiet.may_speak(now, "malformed", client)
        if held is not None:
            self.log.warning("malformed datagram", client=client, reason=reason, not_logged=held)
            self.report("malformed", client, detail=reason)

    def dropped(self, client: str, name: str, reason: str, now: float, *, reported: bool) -> None:
        """A request that gets no answer now; the client will ask again."""
        held = self._quiet.may_speak(now, "dropped", client, reason)
        if held is not None:
            self.log.warning("request dropped", client=client, name=name, reason=reason, not_logged=held)
            if reported:
                self.report("refused", client, name=name, detail=f"dropped: {reason}")

    def refused(self, client: str, name: str, attempt: str, reason: str, now: float) -> None:
        """A request that was answered with an ERROR. Every one is reported: a timeline without the files that
        were not there explains nothing."""
        held = self._quiet.may_speak(now, "refused", client, name)
        if held is not None:
            self.log.info(
                "refused", client=client, name=name, attempt=attempt, reason=reason, not_logged=held
            )
        self.report("refused", client, name=name, attempt=attempt, detail=reason)
