"""Keeps logs and timelines readable under hostile traffic: of one kind of trouble, one line per period.

A boot network may carry anything at line rate; the log, and the disk under it, must not. It knows no logger and
no clock: it says whether to speak, and how much was held back. Its own memory is bounded, too, as addresses and
names can be made up.
"""

from collections import OrderedDict

__all__ = ["Quiet"]

_REMEMBERED = 4096


class Quiet:
    """One line per key and ``period`` (seconds); with ``most``, so many lines of all keys per period."""

    def __init__(self, period: float, *, most: int | None = None) -> None:
        self._period = period
        self._most = most
        self._began = float("-inf")
        self._lines = 0
        self._keys: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def may_speak(self, now: float, *key: str) -> int | None:
        """None: say nothing. A number: speak; that many like it were held back since the last time."""
        if now - self._began >= self._period:
            self._began, self._lines = now, 0
        spoken, held = self._keys.get(key, (float("-inf"), 0))
        too_many = self._most is not None and self._lines >= self._most
        if now - spoken < self._period or too_many:
            self._remember(key, spoken, held + 1)
            return None
        self._lines += 1
        self._remember(key, now, 0)
        return held

    def once(self, now: float, *key: str) -> bool:
        """Whether to speak, for those who do not tell how often they did not."""
        return self.may_speak(now, *key) is not None

    def _remember(self, key: tuple[str, ...], spoken: float, held: int) -> None:
        self._keys[key] = (spoken, held)
        self._keys.move_to_end(key)
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
