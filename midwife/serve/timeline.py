"""Writes a host's timeline and the log, and keeps whoever is noisy from filling them.

Most lines are caused by packets, and packets cost a hostile network nothing. So the same line is told once in ten
minutes per host and boot attempt, and of one kind only so many in that time; what the lifecycle does is always
told. What is left out is told too, once.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from midwife.serve.quiet import Quiet
from midwife.store.store import Store

__all__ = ["Timeline"]

_INTERVAL = 600.0
"""Seconds. A machine with nothing to boot asks every 30 s, for weeks."""
_MOST = 30
"""Lines of one kind per host and interval, however much they differ: addresses and names can be made up."""
_REMEMBERED = 4096


class Timeline:
    """Of all hosts; "" is the host of what belongs to none."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._same = Quiet(_INTERVAL)
        self._counted: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._log = structlog.get_logger().bind(part="boot")

    def tell(
        self, host: str, attempt: str, kind: str, text: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """Write it, whatever was written before."""
        self._store.add_event(kind, text, host=host, attempt=attempt, data=data, at=self._clock())
        self._log.info(kind, host=host, attempt=attempt, text=text)

    def mention(
        self, host: str, attempt: str, kind: str, text: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """Write it unless it was said just now, or too much of its kind was."""
        now = self._clock()
        if not self._same.once(now, host, attempt, kind, text):
            return
        number = self._count(now, host, kind)
        if number <= _MOST:
            self.tell(host, attempt, kind, text, data)
        elif number == _MOST + 1:
            left_out = f"{_MOST} such lines in {_INTERVAL / 60:.0f} minutes: more are left out for a while"
            self.tell(host, attempt, kind, left_out)

    def _count(self, now: float, host: str, kind: str) -> int:
        began, number = self._counted.get((host, kind), (now, 0))
        if now - began >= _INTERVAL:
            began, number = now, 0
        self._counted[host, kind] = (began, number + 1)
        self._counted.move_to_end((host, kind))
        while len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)
        return number + 1
