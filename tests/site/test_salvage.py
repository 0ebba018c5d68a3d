"""Broken parts do not hide the mistakes in the rest."""

from midwife.site.model import Host, Rule
from midwife.site.validate import salvage


def test_of_a_list_only_the_broken_items_go() -> None:
    good = [f"52:54:00:00:00:{number:02x}" for number in range(12)]
    broken = [*good[:9], "nine", "ten", *good[9:], "last"]
    host = salvage(Host, {"name": "esx-01", "macs": broken, "colour": "blue", "image": "lab"})
    assert host is not None
    assert (list(host.macs), host.image) == (good, "lab")


def test_too_little_is_left() -> None:
    assert salvage(Host, {"name": "not a name!"}) is None
    assert salvage(Rule, {"name": "r", "patterns": "nonsense", "items": {}}) is None
    assert salvage(Host, ["a list"]) is None
    assert salvage(Host, None) is None


def test_what_is_whole_stays_whole() -> None:
    data = {"name": "esx-01", "macs": ["52:54:00:00:00:01"]}
    assert salvage(Host, data) == Host.model_validate(data)
