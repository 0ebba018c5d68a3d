"""What each machine got when it booted last, as it was recorded. Reads the database as it is."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from midwife.cli.observed import connect, data_dir

if TYPE_CHECKING:
    from midwife.cli.rule.machines import Machine
    from midwife.site.model import Site

__all__ = ["KINDS", "last_items"]

KINDS = {
    "image": "image",
    "configuration": "configuration",
    "mode": "boot",
    "location": "location",
    "script-bundle": "script-bundle",
}
"""Key of a recorded answer -> item type."""

# SQLite takes the other columns of a group from the row with the maximum (its documentation, "bare columns").
_LAST = "SELECT host, answer, MAX(started) FROM attempts GROUP BY host"


def last_items(site: "Site", machines: Iterable["Machine"]) -> dict[str, dict[str, str]]:
    """By name: item type -> value, "" for nothing. What is not recorded is not in it; nor is who never booted."""
    if not (data_dir(site.root) / "midwife.db").exists():
        return {}
    db = connect(site.root)
    try:
        answers = {row["host"]: json.loads(row["answer"]) for row in db.execute(_LAST)}
        local = {row["id"] for row in db.execute("SELECT id FROM hosts WHERE state = 'local'")}
    finally:
        db.close()
    found = {}
    for machine in machines:
        if not machine.row:
            continue
        if machine.row in local:
            found[machine.name] = {"boot": "local"}
        elif machine.row in answers and (items := _items(answers[machine.row])):
            found[machine.name] = items
    return found


def _items(answer: Mapping[str, object]) -> dict[str, str]:
    items = {kind: str(answer[key]) for key, kind in KINDS.items() if key in answer}
    if not items.get("image"):
        items.pop("image", None)  # a person said that it is up (midwife push): nobody knows with what
    return items
