"""Keeps one noisy sender from filling the timeline: the same thing is told once per interval."""

from collections import OrderedDict

__all__ = ["Quiet"]

_REMEMBERED = 4096


class Quiet:
    """``once(key)`` is True the first time, and again when ``interval`` seconds have passed."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def once(self, now: float, *key: str) -> bool:
        """Whether to tell it now."""
        if now - self._last.get(key, float("-inf")) < self._interval:
            return False
        self._last[key] = now
        self._last.move_to_end(key)
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return True
