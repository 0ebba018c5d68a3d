"""An attempt that is kept in memory while its host boots, and what the host's next request means for it.

Pure but for the clock's reading that is passed in. The rules here come from what loaders do: mboot fetches
boot.cfg twice, loaders chain to each other, machines are reset at any moment, and anybody may ask in their name.
"""

from dataclasses import dataclass, field

from midwife.core.lifecycle import OVER, State
from midwife.store.records import Attempt

__all__ = ["QUIET", "Trip"]

QUIET = 60.0
"""Seconds without a sign of life after which another address may take an attempt over that loaded nothing yet, and
without a new byte after which a loading host may be declared stuck."""
_REMEMBERED = 600.0
"""Seconds that an attempt which is over stays in memory: its last reports may come late."""


@dataclass(slots=True)
class Trip:
    """An attempt, with what need not survive a restart."""

    attempt: Attempt
    touched: float
    """The last sign of life."""
    moved: float
    """The last new byte of its image. Asking for the configuration again and again is no progress."""
    dirty: bool = False
    """Progress that is not written yet."""
    rebooting: bool = False
    """A reboot step is running: the next boot belongs to this attempt."""
    loaders: set[str] = field(default_factory=set)

    def starts_over(self) -> bool:
        """Whether a request for a configuration means that the machine was reset.

        Everything that fetches one more than once does so before the first file of the image.
        """
        if self.attempt.state is State.CUSTOMIZING and self.rebooting:
            return False
        return self.attempt.state is not State.LOADING or bool(self.attempt.sent)

    def is_foreign_to(self, address: str, now: float) -> bool:
        """Whether it is another address', and far or fresh enough that it may not be taken over."""
        attempt = self.attempt
        if attempt.state in OVER or attempt.address in ("", address):
            return False
        return bool(attempt.sent) or now - self.touched < QUIET

    def is_late(self, now: float) -> bool:
        """Whether its state has lasted too long. What still loads is slow, not stuck."""
        deadline = self.attempt.deadline
        moving = self.attempt.state is State.LOADING and now - self.moved < QUIET
        return deadline is not None and now > deadline and not moving

    def is_history(self, now: float) -> bool:
        """Whether nothing more is to come."""
        return self.attempt.state in OVER and now - self.touched > _REMEMBERED
