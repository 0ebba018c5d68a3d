"""The life of a boot attempt: every state, every trigger, and the one table that joins them.

Two rules keep this file honest: everything that may change a state is in ``TABLE``, and nothing here knows
protocols, clocks or the database. ``midwife status``, the documentation's diagram and the deadlines are made
from these tables. A trigger that a state does not list is refused with a reason and leaves the state alone.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "EXPECTED",
    "OVER",
    "STUCK",
    "TABLE",
    "UNDER_WAY",
    "Refusal",
    "State",
    "Trigger",
    "follow",
    "mermaid",
]


class State(StrEnum):
    """Where a host is."""

    DISCOVERED = "discovered"
    """It asked for something; no rule and no host file gives it an image."""
    ARMED = "armed"
    """It has an image (or is to be asked which) and is waited for: nothing of it was seen yet."""
    LOADING = "loading"
    """It was told what to boot and is fetching it."""
    BOOTED = "booted"
    """Every file was served; the system is starting."""
    CALLED_BACK = "called-back"
    """It connected to PBHOST and was recognised."""
    CUSTOMIZING = "customizing"
    """The customization is being pushed."""
    READY = "ready"
    FAILED = "failed"
    LOCAL = "local"
    """It was told to boot from its own disk."""


class Trigger(StrEnum):
    """What moves a host from state to state."""

    SEEN = "seen"
    """It asked, and there is nothing to give."""
    ARM = "arm"
    """The site names it, with an image."""
    BOOT = "boot"
    """It was given something to boot."""
    LOCAL = "local"
    """It was told to boot from its own disk."""
    LOADED = "loaded"
    """The last file of its image was served."""
    CALL = "call"
    """A callback that was recognised."""
    PUSH = "push"
    """The first step of its customization starts."""
    DONE = "done"
    """Nothing is left to do."""
    FAIL = "fail"
    """A step failed for good."""
    DEADLINE = "deadline"
    """The state lasted longer than it may."""


_S, _T = State, Trigger

TABLE: dict[State, dict[Trigger, State]] = {
    _S.DISCOVERED: {
        _T.SEEN: _S.DISCOVERED,
        _T.ARM: _S.ARMED,
        _T.BOOT: _S.LOADING,
        _T.LOCAL: _S.LOCAL,
    },
    _S.ARMED: {
        _T.SEEN: _S.DISCOVERED,
        _T.ARM: _S.ARMED,
        _T.BOOT: _S.LOADING,
        _T.LOCAL: _S.LOCAL,
    },
    _S.LOADING: {
        _T.BOOT: _S.LOADING,  # mboot fetches boot.cfg twice; a loader fetches its configuration after that
        _T.LOADED: _S.BOOTED,
        _T.CALL: _S.CALLED_BACK,  # its last report may come after the call, or may have been lost
        _T.FAIL: _S.FAILED,
        _T.DEADLINE: _S.FAILED,
    },
    _S.BOOTED: {
        _T.CALL: _S.CALLED_BACK,
        _T.FAIL: _S.FAILED,
        _T.DEADLINE: _S.FAILED,
    },
    _S.CALLED_BACK: {
        _T.CALL: _S.CALLED_BACK,  # the client repeats itself until it is answered
        _T.PUSH: _S.CUSTOMIZING,
        _T.DONE: _S.READY,  # nothing to push
        _T.FAIL: _S.FAILED,
        _T.DEADLINE: _S.FAILED,
    },
    _S.CUSTOMIZING: {
        _T.BOOT: _S.CUSTOMIZING,  # a reboot step: the same attempt boots once more
        _T.LOADED: _S.CUSTOMIZING,
        _T.CALL: _S.CUSTOMIZING,
        _T.PUSH: _S.CUSTOMIZING,  # taken up again after a restart of the service
        _T.DONE: _S.READY,
        _T.FAIL: _S.FAILED,
        _T.DEADLINE: _S.FAILED,
    },
    _S.READY: {_T.CALL: _S.READY},
    _S.FAILED: {_T.CALL: _S.CALLED_BACK},  # it came after all
    _S.LOCAL: {_T.LOCAL: _S.LOCAL, _T.CALL: _S.LOCAL},
}

UNDER_WAY = frozenset({_S.LOADING, _S.BOOTED, _S.CALLED_BACK, _S.CUSTOMIZING})
"""A boot attempt that has begun and not ended; only these may get stuck."""

OVER = frozenset({_S.READY, _S.FAILED, _S.LOCAL})
"""Where a trip ends. The host's next boot is a new attempt, which starts from ``discovered`` or ``armed``."""

EXPECTED: dict[State, str] = {
    _S.DISCOVERED: "a rule or a host file for it",
    _S.ARMED: "its first request",
    _S.LOADING: "all files",
    _S.BOOTED: "callback",
    _S.CALLED_BACK: "customization",
    _S.CUSTOMIZING: "last step",
}
"""The event that ends a state well; where the state has a deadline, it is due within it."""

STUCK: dict[State, str] = {
    _S.LOADING: "stopped fetching files: look at the host's console, then at its network",
    _S.BOOTED: "no callback: every file was served, but nobody connected to PBHOST",
    _S.CALLED_BACK: "called back, but the customization never started",
    _S.CUSTOMIZING: "the customization did not end in time",
}
"""What a passed deadline means, for the person who reads ``midwife status``."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A trigger that the state does not know; the state stays."""

    state: State
    trigger: Trigger

    def __str__(self) -> str:
        known = ", ".join(TABLE[self.state]) or "nothing"
        return f"{self.trigger} means nothing while {self.state} (which takes {known})"


def follow(state: State, trigger: Trigger) -> State | Refusal:
    """The state after the trigger, or why there is none."""
    return TABLE[state].get(trigger) or Refusal(state, trigger)


def mermaid() -> str:
    """The table as a state diagram in Mermaid's notation, for the documentation."""
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state}" as {_node(state)}' for state in TABLE if _node(state) != state]
    lines += [f"    [*] --> {_node(state)}" for state in (_S.DISCOVERED, _S.ARMED)]
    for state, moves in TABLE.items():
        for trigger, target in moves.items():
            if target is not state:
                lines.append(f"    {_node(state)} --> {_node(target)}: {trigger}")
    lines += [f"    {_node(state)} --> [*]" for state in TABLE if state in OVER]
    return "\n".join(lines)


def _node(state: State) -> str:
    return state.value.replace("-", "_")
