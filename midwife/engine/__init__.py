"""The seam to whatever runs plans: start, cancel, resume after a crash.

The control process owns the records: it starts a run when a callback asks for one, and starts every
unfinished run again when the service starts. An engine owns the execution. ``midwife.engine.local`` runs plans
in threads of this process; one that survives its process, or spreads over several, comes behind the same
protocol.
"""

from collections.abc import Callable
from typing import Protocol

from midwife.core.plan import Plan
from midwife.customize.cancel import Cancel

__all__ = ["Engine", "Execute"]

Execute = Callable[[str, Plan, Cancel], None]
"""``execute(run_id, plan, cancel)`` runs a plan and records how it went. It is called at least once for a
started run and must cope with more: it skips what the records say is done."""


class Engine(Protocol):
    """Runs plans: each run at most once at a time, each host in at most one run at a time."""

    def start(self, run_id: str, plan: Plan) -> None:
        """See to it that the run is executed. Does nothing for a run that waits or is under way."""

    def cancel(self, run_id: str, reason: str = "cancelled") -> bool:
        """Stop a run within about a second, or take it off the queue. False if it is not active."""

    def active(self) -> frozenset[str]:
        """Runs that wait or are under way."""

    def close(self) -> None:
        """Interrupt all runs (``cancel.final`` is False: they are unfinished, not cancelled) and end."""
