"""How hosts look on a terminal: columns, ages, progress bars, and the line that sums up."""

import time
from collections import Counter
from collections.abc import Sequence

from midwife.cli.common import printable
from midwife.cli.observed import HostStatus
from midwife.core.lifecycle import EXPECTED, UNDER_WAY, State

__all__ = ["age", "colour", "lines", "next_event", "progress", "rows", "summary"]

HEADINGS = ("HOST", "STATE", "PROGRESS", "AGE", "IMAGE", "NEXT")

_COLOURS = {
    State.READY: "green",
    State.FAILED: "red",
    State.DISCOVERED: "magenta",
    State.LOCAL: "blue",
    State.ARMED: "white",
}
_BAR = 8


def age(seconds: float) -> str:
    """``40s``, ``1m12s``, ``2h``, ``3d``: as much as one wants to read."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 5400:
        return f"{whole // 60}m"
    return f"{whole // 3600}h" if whole < 172_800 else f"{whole // 86_400}d"


def progress(host: HostStatus) -> str:
    """What can be counted in this state."""
    match host.state:
        case State.LOADING | State.BOOTED if host.files:
            share = host.bytes_done / host.bytes if host.bytes else 0.0
            filled = int(share * _BAR)
            bar = "#" * filled + "-" * (_BAR - filled)
            return f"{bar} {host.files_done:>3}/{host.files} {share:>4.0%}"
        case State.CUSTOMIZING if host.steps:
            return f"{min((host.step or 0) + 1, host.steps)}/{host.steps} {printable(host.label)}"
        case State.READY if host.steps and host.run_seconds is not None:
            return f"{host.steps} step{'s' if host.steps != 1 else ''} in {age(host.run_seconds)}"
        case State.FAILED if host.step is not None and host.steps:
            return f"{min(host.step + 1, host.steps)}/{host.steps} {printable(host.label)}"
        case State.FAILED if host.files:
            return f"{host.files_done}/{host.files} files"
    return "-"


def next_event(host: HostStatus, now: float) -> str:
    """The event that is expected next and by when; for a failed host, what happened."""
    if host.state == State.FAILED:
        return f"{printable(host.error or host.note)}: midwife events {host.host}"
    if host.state == State.DISCOVERED and not (host.known or host.image):
        return f"no rule matches: midwife rule suggest {host.host}"
    if host.state == State.DISCOVERED:
        why = (host.image and printable(host.note)) or "nothing to boot"
        return f"{why}: midwife explain {host.host}"
    expected = EXPECTED.get(State(host.state))
    if not expected:
        return "-"
    if host.state == State.ARMED and host.note:
        return f"{expected}; last: {printable(host.note)}"
    if host.deadline and host.deadline < now:
        return f"{expected} overdue by {age(now - host.deadline)}"
    return f"{expected} within {age(host.deadline - now)}" if host.deadline else expected


def rows(hosts: Sequence[HostStatus], now: float | None = None) -> list[tuple[str, ...]]:
    """The table's cells, without headings."""
    moment = time.time() if now is None else now
    return [
        (
            host.host,
            host.state,
            progress(host),
            age(moment - host.since),
            host.image or "-",
            next_event(host, moment),
        )
        for host in hosts
    ]


def lines(cells: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned columns with headings, for a terminal or a pipe; the last column is as long as it is."""
    table = [HEADINGS, *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]


def colour(state: str) -> str:
    """The terminal colour of a state."""
    return _COLOURS.get(State(state), "yellow")


def summary(hosts: Sequence[HostStatus]) -> str:
    """``5 hosts: 1 ready, 2 under way, 1 failed, 1 unknown``."""
    names = {State.DISCOVERED: "unknown", State.LOCAL: "local", State.ARMED: "armed"}
    counted = Counter(
        "under way" if host.state in UNDER_WAY else names.get(State(host.state), host.state) for host in hosts
    )
    order = ("ready", "under way", "failed", "armed", "local", "unknown")
    told = ", ".join(f"{counted[name]} {name}" for name in order if counted[name])
    return f"{len(hosts)} host{'s' if len(hosts) != 1 else ''}" + (f": {told}" if told else "")
