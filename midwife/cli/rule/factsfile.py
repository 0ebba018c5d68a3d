"""``--facts FILE``: the facts of a machine as JSON, by attribute or as ``midwife explain -o json`` has them."""

import json
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from midwife.cli.common import fail, printable

if TYPE_CHECKING:
    from midwife.core.facts import Facts

__all__ = ["Described", "read_facts"]

_LONGEST = 1 << 20
"""Bytes. Facts have some twenty fields; this is room for whatever else is in the file."""
_FIELDS = {"mac": "macs", "oemstring": "oemstrings"}
"""Attribute -> key of ``Facts``, where they differ."""


@dataclass(frozen=True, slots=True)
class Described:
    """A machine that a file describes."""

    facts: "Facts"
    labels: Mapping[str, tuple[str, ...]]
    """Attributes ``label.NAME``."""


def read_facts(name: str) -> Described:
    """``-``: standard input. Ends the command for anything but facts."""
    shown = "standard input" if name == "-" else printable(name)
    try:
        data = json.loads(_read(name, shown))
    except (ValueError, RecursionError):
        fail(f'{shown} is not JSON; write {{"mac": "52:54:00:12:34:56", "vendor": "Dell Inc."}}')
    if isinstance(data, dict) and isinstance(data.get("facts"), dict):
        data = data["facts"]  # the output of explain, or of rule test itself
    if not isinstance(data, dict):
        fail(f"{shown} is not a JSON object of attributes and values")
    return _described(data, shown)


def _read(name: str, shown: str) -> bytes:
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(_LONGEST + 1)
        else:
            path = Path(name)
            if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
                fail(f"{shown} is not a regular file; - is standard input")
            with path.open("rb") as stream:
                raw = stream.read(_LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        fail(f"{shown}: {getattr(error, 'strerror', None) or error}")
    if len(raw) > _LONGEST:
        fail(f"{shown} is longer than {_LONGEST} bytes; it has the facts of one machine")
    return raw


def _described(data: Mapping[str, Any], shown: str) -> Described:
    from midwife.core.facts import Facts, Firmware
    from midwife.rules.attributes import ATTRIBUTES, LABEL, attribute
    from midwife.wire.identity import InvalidIdentity, clean_serial, parse_mac, parse_uuid

    def wrong(key: str, what: str) -> NoReturn:
        fail(f"{shown}: {printable(key)}: {what}")

    known = {*(_FIELDS.get(name, name) for name in ATTRIBUTES), "asked"}
    fields: dict[str, Any] = {}
    labels: dict[str, tuple[str, ...]] = {}
    for key, value in data.items():
        name = key.lower()
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            wrong(key, "write a text, or a list of texts")
        if name.startswith(LABEL) and attribute(name):
            labels[name] = tuple(texts)
            continue
        field = _FIELDS.get(name, name)
        if field not in known:
            wrong(key, f"is no attribute; there are {', '.join(ATTRIBUTES)}, {LABEL}NAME")
        try:
            if field == "macs":
                texts = [parse_mac(text) for text in texts if text.strip()]
            elif field == "uuid":
                texts = [parse_uuid(text) for text in texts if text.strip()]
        except InvalidIdentity as error:
            wrong(key, str(error))
        if field in ("serial", "asset"):
            texts = [clean_serial(text) for text in texts]
        if field == "firmware" and not set(texts) <= set(Firmware):
            wrong(key, f"is one of {', '.join(kind for kind in Firmware if kind)}")
        if field in ("macs", "oemstrings", "asked"):
            fields[field] = texts
        elif len(texts) > 1:
            wrong(key, "a machine has one value of it; give one")
        elif texts:
            fields[field] = texts[0]
    return Described(Facts.from_json(fields), labels)
