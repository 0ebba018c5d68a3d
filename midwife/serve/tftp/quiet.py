"""Keeps the log readable under hostile traffic: of one kind of trouble from one client, one line per period.

A boot network may carry anything at line rate; the log, and the disk under it, must not. It knows no logger:
it says whether to speak, and how much was held back.
"""

__all__ = ["Quiet"]

_PERIOD = 10.0
_LINES_PER_PERIOD = 100
_MAX_KEYS = 1000


class Quiet:
    """One line per key and period, and a bound for all keys together (source addresses can be forged)."""

    def __init__(self, period: float = _PERIOD) -> None:
        """``period`` is in seconds."""
        self._period = period
        self._began = 0.0
        self._lines = 0
        self._held: dict[str, int] = {}
        self._spoken: dict[str, float] = {}

    def may_speak(self, key: str, now: float) -> int | None:
        """None: say nothing. A number: speak, and that many like it were not spoken of before."""
        if now - self._began >= self._period:
            self._began = now
            self._lines = 0
        last = self._spoken.get(key)
        if (last is not None and now - last < self._period) or self._lines >= _LINES_PER_PERIOD:
            if key in self._held or len(self._held) < _MAX_KEYS:
                self._held[key] = self._held.get(key, 0) + 1
            return None
        self._lines += 1
        if len(self._spoken) >= _MAX_KEYS:
            self._spoken.clear()
            self._held.clear()
        self._spoken[key] = now
        return self._held.pop(key, 0)
