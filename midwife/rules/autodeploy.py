"""What ``boot/tools/export-autodeploy.ps1`` writes: the rules and both rule sets of an Auto Deploy, as JSON.

Any bytes give an Export or one ExportError. The format is ours and has a number; what PowerShell makes of it on
its way (byte order marks, UTF-16, arrays in wrappers) is accepted. Knows nothing of midwife's own rules:
``movein`` makes those of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

__all__ = ["MAX_BYTES", "Export", "ExportError", "ExportedRule", "ItemKind", "OldItem", "parse_export"]

MAX_BYTES = 16 << 20
"""An export of 10,000 rules has some 5 MB."""
_MOST_RULES = 10_000
_MOST_PARTS = 1_000
"""Patterns or items of one rule."""
_LONGEST = 4096
"""Characters of one text; Windows and vCenter end far below."""
_FORMAT = "midwife-autodeploy"
_VERSION = 1

ItemKind = Literal[
    "image-profile", "host-profile", "datacenter", "folder", "cluster", "script-bundle", "unknown"
]


class ExportError(ValueError):
    """It is not a whole export; the message says what is wrong and where in the file."""


@dataclass(frozen=True, slots=True)
class OldItem:
    """An item of a rule of Auto Deploy."""

    kind: ItemKind
    name: str
    vendor: str = ""
    """Of an image profile."""
    path: tuple[tuple[str, str], ...] = ()
    """Of a location: kind and name of all that it lies in, itself last."""
    type: str = ""
    """What PowerShell calls it, for kinds that the script does not know."""


@dataclass(frozen=True, slots=True)
class ExportedRule:
    """A rule of Auto Deploy; no patterns: all hosts."""

    name: str
    patterns: tuple[str, ...]
    items: tuple[OldItem, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """A whole Auto Deploy. The sets hold rules, not names: a copy may have the name of what it replaces."""

    rules: tuple[ExportedRule, ...]
    active: tuple[ExportedRule, ...]
    working: tuple[ExportedRule, ...]
    server: str = ""
    exported: str = ""


def parse_export(data: bytes) -> Export:
    """The export in these bytes. Raises ExportError."""
    if len(data) > MAX_BYTES:
        raise ExportError(f"the file has more than {MAX_BYTES >> 20} MiB; that is no export of rules")
    try:
        # Windows PowerShell's > writes UTF-16, its UTF-8 has a byte order mark.
        text = data.decode(json.detect_encoding(data))
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        what = "the file is empty" if not data.strip() else f"not JSON: {error.msg}, line {error.lineno}"
        raise ExportError(f"{what}; export it again") from None
    except UnicodeDecodeError:
        raise ExportError("not text in UTF-8 or UTF-16; export it again") from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of brackets
        raise ExportError("not an export: its JSON is nested too deeply or has absurd numbers") from None
    top = _mapping(whole, "the file")
    if top.get("format") != _FORMAT:
        raise ExportError("not an export: it must come from boot/tools/export-autodeploy.ps1")
    if top.get("version") != _VERSION:
        raise ExportError(
            f"the export has format {_shown(top.get('version'))}, this midwife reads {_VERSION}; "
            "use the script that came with it"
        )
    rules, active, working = (_rules(top, key) for key in ("rules", "active", "working"))
    return Export(rules, active, working, _text(top, "server", "", ""), _text(top, "exported", "", ""))


def _rules(top: Mapping[str, Any], key: str) -> tuple[ExportedRule, ...]:
    entries = _list(top, key, "", _MOST_RULES)
    return tuple(_rule(entry, f"{key}[{number}]") for number, entry in enumerate(entries))


def _rule(data: Any, where: str) -> ExportedRule:
    rule = _mapping(data, where)
    name = _text(rule, "name", where)
    said = _list(rule, "patterns", where, _MOST_PARTS)
    patterns = tuple(_string(text, f"{where}.patterns[{number}]") for number, text in enumerate(said))
    all_hosts = rule.get("allHosts")
    if all_hosts is not (not patterns):  # a pattern that got lost would turn it into a rule for all
        raise ExportError(
            f"{where}: rule {_shown(name)} must have patterns or allHosts: true, and not both; export it again"
        )
    items = _list(rule, "items", where, _MOST_PARTS)
    return ExportedRule(
        name, patterns, tuple(_item(item, f"{where}.items[{number}]") for number, item in enumerate(items))
    )


def _item(data: Any, where: str) -> OldItem:
    item = _mapping(data, where)
    kind = _text(item, "kind", where)
    if kind not in get_args(ItemKind):
        raise ExportError(
            f"{where}: {_shown(kind)} is no kind of item; use the script that came with midwife"
        )
    path = []
    for number, entry in enumerate(_list(item, "path", where, 64) if "path" in item else []):
        spot = f"{where}.path[{number}]"
        part = _mapping(entry, spot)
        path.append((_text(part, "kind", spot), _text(part, "name", spot)))
    vendor, type_ = _text(item, "vendor", where, ""), _text(item, "type", where, "")
    return OldItem(cast(ItemKind, kind), _text(item, "name", where), vendor, tuple(path), type_)


def _mapping(data: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise ExportError(f"{where}: keys and values are expected; export it again")
    return data


def _list(data: Mapping[str, Any], key: str, where: str, most: int) -> list[Any]:
    spot = f"{where}.{key}" if where else key
    if key not in data:
        raise ExportError(f"{spot} is missing; export it again")
    value = data[key]
    # Windows PowerShell 5.1 writes some arrays as {"value": […], "Count": n}.
    if isinstance(value, dict) and set(value) == {"value", "Count"}:
        value = value["value"]
    if not isinstance(value, list):
        raise ExportError(f"{spot}: a list is expected; export it again")
    if len(value) > most:
        raise ExportError(f"{spot} has more than {most} entries; that is no export of rules")
    return value


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = data.get(key)
    if value is None and default is not None:
        return default
    text = _string(value, f"{where}.{key}" if where else key)
    if not text and default is None:
        raise ExportError(f"{where}.{key} is empty; export it again")
    return text


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ExportError(f"{where}: a text is expected; export it again")
    if len(value) > _LONGEST:
        raise ExportError(f"{where} is longer than {_LONGEST} characters")
    if any("\ud800" <= c <= "\udfff" for c in value):  # JSON can say them, no file can hold them
        raise ExportError(f"{where} holds half a character; export it again")
    return value.strip()


def _shown(value: object) -> str:
    return repr(value if len(str(value)) <= 80 else f"{str(value)[:77]}…")
