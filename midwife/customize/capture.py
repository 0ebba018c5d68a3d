"""What a command printed: bounded, masked, fit for a terminal and a database. A host can print what it likes,
for as long as it likes; here it becomes at most 64 KiB of harmless text per stream.
"""

import re
from dataclasses import dataclass

from midwife.customize.masking import Masker

__all__ = ["HEAD", "TAIL", "Capture", "Output"]

HEAD = 16 * 1024
TAIL = 48 * 1024
"""Bytes kept of the beginning and of the end: causes stand at the beginning, errors at the end."""

# Everything that a terminal would obey (ESC, C1, backspaces), and NUL, which PostgreSQL refuses.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Output:
    """The end of a command. ``rc`` is its exit status."""

    rc: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams, for the timeline."""
        if not self.stderr.strip():
            return self.stdout
        if not self.stdout.strip():
            return self.stderr
        return f"{self.stdout.rstrip()}\n-- standard error --\n{self.stderr}"


class Capture:
    """Collects one stream."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Bytes as they come, any number of times."""
        self._size += len(data)
        room = HEAD - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * TAIL:  # cut seldom: each cut moves the kept bytes
            del self._tail[:-TAIL]

    def text(self, masker: Masker | None) -> str:
        """Without a masker it may hold secrets: for values that are compared, never shown."""
        del self._tail[:-TAIL]
        dropped = self._size - len(self._head) - len(self._tail)
        if not dropped:
            return _clean(_masked(bytes(self._head + self._tail), masker))
        # Half a secret may stand on either side of the gap.
        head = _masked(bytes(self._head), masker, cut_after=True)
        tail = _masked(bytes(self._tail), masker, cut_before=True)
        return f"{_clean(head)}\n[… {dropped} bytes left out …]\n{_clean(tail)}"


def _masked(data: bytes, masker: Masker | None, *, cut_before: bool = False, cut_after: bool = False) -> str:
    text = data.decode(errors="replace")
    return masker.mask(text, cut_before=cut_before, cut_after=cut_after) if masker else text


def _clean(text: str) -> str:
    return _CONTROLS.sub("�", text.replace("\r\n", "\n"))
