"""``pins.yaml`` read and changed by commands, with the comments of whoever wrote it.

The file is written only if it is still as it was read, and only if it says afterwards what it should. Knows
nothing of who decides what a host gets; ``site.load`` checks the site as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midwife.site import files
from midwife.site.draft import Draft, read_pins
from midwife.site.files import FileRefused
from midwife.site.model import Items
from midwife.site.problems import Problem
from midwife.site.validate import validate
from midwife.site.yaml import MAX_BYTES, Document, Place
from midwife.site.yamltext import NotEditable, YamlText
from midwife.site.yamlwrite import pair_lines
from midwife.wire.identity import is_mac, parse_mac

__all__ = ["FILE", "PinsFile", "PinsFileError", "make_items", "read", "save"]

FILE = "pins.yaml"


class PinsFileError(ValueError):
    """The file cannot be read or written, or a pin is none. The message has a line for each thing to mend."""


@dataclass(frozen=True, slots=True)
class PinsFile:
    """The file as it was read. ``save`` refuses if it has changed since."""

    root: Path
    """The site directory."""
    raw: bytes | None
    """None: the site has no pins.yaml yet."""
    pins: Mapping[str, Items]
    """By name as it is written there."""

    def key(self, name: str) -> str:
        """How a machine is written there; ``name`` itself if it is not. MAC addresses in any notation."""
        wanted = parse_mac(name) if is_mac(name) else name
        return next((key for key in self.pins if (parse_mac(key) if is_mac(key) else key) == wanted), wanted)


def read(root: Path) -> PinsFile:
    """The site's pins. Raises PinsFileError with everything that is wrong with them."""
    try:
        raw = files.read(root, FILE, MAX_BYTES)
    except FileRefused as error:
        raise PinsFileError(str(error)) from None
    return PinsFile(root, raw, _parsed(raw)) if raw is not None else PinsFile(root, None, {})


def make_items(given: Mapping[str, str]) -> Items:
    """Raises PinsFileError with all that is wrong."""
    problems: list[Problem] = []
    items = validate(Items, dict(given), Place(Document(FILE, None)), problems)
    if items is None or problems:
        raise PinsFileError("\n".join(problem.said for problem in problems))
    return items


def save(file: PinsFile, pins: Mapping[str, Items]) -> PinsFile:
    """The file, changed so that it says ``pins``; what it says already stays as it is written.

    Raises PinsFileError: it is written in a way that cannot be changed, or somebody else changed it.
    """
    bom = b"\xef\xbb\xbf" if (file.raw or b"").startswith(b"\xef\xbb\xbf") else b""
    try:
        raw = bom + _edited((file.raw or b"")[len(bom) :].decode(), file.pins, pins).encode()
    except NotEditable as error:
        raise PinsFileError(
            f"{FILE} is not changed: {error}; write it in plain lines, or change it yourself"
        ) from None
    if _parsed(raw) != pins:
        raise PinsFileError(f"{FILE} is not changed: write one key a line, or change it yourself")
    try:
        files.replace(file.root, FILE, file.raw, raw)
    except FileRefused as error:
        raise PinsFileError(str(error)) from None
    return PinsFile(file.root, raw, dict(pins))


def _edited(text: str, old: Mapping[str, Items], new: Mapping[str, Items]) -> str:
    if not old:
        newline = "" if not text or text.endswith("\n") else "\n"
        lines = [line for name, items in new.items() for line in pair_lines(name, items.given(), 0)]
        return text + newline + "\n".join(lines) + "\n"
    editor = YamlText(text)
    for name in old:
        if name not in new:
            editor.remove(name)
    for name, items in new.items():
        if old.get(name) != items:
            editor.change_mapping(name, items.given(), tuple(old))
    return editor.result()


def _parsed(raw: bytes) -> dict[str, Items]:
    draft = Draft(Path(), Path())
    read_pins(draft, raw)
    if draft.problems:
        raise PinsFileError("\n".join(map(str, draft.problems)))
    return {name: found.value for name, found in draft.pins}
