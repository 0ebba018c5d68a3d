"""An Auto Deploy moves in: what its export says, what midwife makes of it; and the same hosts get the same."""

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.rules.autodeploy import Export, ExportedRule, ExportError, ItemKind, OldItem, parse_export
from midwife.rules.match import evaluate
from midwife.rules.movein import Known, Moved, move_in
from midwife.rules.patterns import parse_pattern
from midwife.site.model import Items, Rule
from midwife.site.reserved import RESERVED_IMAGE_NAMES

DATA = Path(__file__).parents[1] / "data" / "autodeploy"
LAB = (DATA / "lab.json").read_bytes()
STAGED = (DATA / "staged.json").read_bytes()
EVERYTHING = Known(
    images=frozenset({"ESXi-8.0U3-24022510-standard", "ESXi-7.0U3-lab", "ESXi-7.0-lab", "a", "b"}),
    configurations=frozenset({"base", "Gr-e-M-2024"}),
    bundles=frozenset({"firstboot.tgz"}),
)


def test_a_lab_moves_in_whole() -> None:
    moved = move_in(parse_export(LAB), EVERYTHING)

    assert moved.active == moved.working == (".esx-07", "old servers", "everything else")
    assert [rule.name for rule in moved.rules] == [".esx-07", "old servers", "everything else", "not yet"]
    hidden, old, rest, unused = moved.rules
    assert (hidden.patterns, hidden.items) == (
        ("mac=00:50:56:12:34:56",),
        {"script-bundle": "firstboot.tgz"},
    )
    assert old.patterns == (
        "vendor=Dell Inc.,HP",
        "model==PowerEdge R630, rev. 2",
        "ipv4=192.168.1.10-192.168.1.20,192.168.1.40",
    )
    assert old.items == {"image": "ESXi-7.0U3-lab", "location": "Lab/Rack 7/ClusterA"}
    assert (rest.patterns, rest.items) == (
        (),
        {"image": "ESXi-8.0U3-24022510-standard", "configuration": "base"},
    )
    assert unused.items == {"script-bundle": "firstboot.tgz"}
    assert moved.complete
    assert moved.left_out == moved.changed == ()


def test_windows_powershell_writes_it_differently_and_means_the_same() -> None:
    lab = parse_export(LAB)
    assert parse_export((DATA / "powershell5.json").read_bytes()) == lab
    assert parse_export(LAB.decode().encode("utf-16")) == lab  # what > makes of it there


def test_what_the_site_does_not_have_is_left_out_and_told() -> None:
    moved = move_in(parse_export(LAB), Known(images=frozenset({"8.0U3"}), configurations=frozenset({"base"})))
    assert not moved.complete
    old, rest = moved.rules[1:3]
    assert old.items == {"location": "Lab/Rack 7/ClusterA"}
    assert rest.items == {"configuration": "base"}
    assert [(one.rule, one.item) for one in moved.left_out] == [
        (".esx-07", "script-bundle: firstboot.tgz"),
        ("old servers", "image: ESXi-7.0U3-lab"),
        ("everything else", "image: ESXi-8.0U3-24022510-standard"),
        ("not yet", "script-bundle: firstboot.tgz"),
    ]
    told = moved.left_out[1]
    assert told.what == "image profile ESXi-7.0U3-lab of Lab"
    assert told.why == "there is no image ESXi-7.0U3-lab"
    assert "midwife image netboot ESXi-7.0U3-lab" in told.do
    assert "--image ESXi-7.0U3-lab=NAME" in told.do


def test_the_caller_knows_the_image_under_another_name() -> None:
    known = Known(
        images=frozenset({"8.0U3", "7.0U3"}),
        configurations=frozenset({"lab-base"}),
        bundles=frozenset({"firstboot.tar.gz"}),
        image_names={"ESXi-8.0U3-24022510-standard": "8.0U3", "ESXi-7.0U3-lab": "7.0U3"},
        configuration_names={"base": "lab-base"},
    )
    moved = move_in(parse_export(LAB), known)
    assert moved.complete
    assert moved.rules[2].items == {"image": "8.0U3", "configuration": "lab-base"}
    assert moved.rules[0].items == {"script-bundle": "firstboot.tar.gz"}
    assert "image profile ESXi-7.0U3-lab of Lab is called '7.0U3' here" in moved.changed


def test_script_and_parser_speak_of_the_same_keys() -> None:
    script = (Path(__file__).parents[2] / "boot" / "tools" / "export-autodeploy.ps1").read_text("ascii")
    assert "format   = 'midwife-autodeploy'" in script
    assert "$formatVersion = 1" in script
    lab = json.loads(LAB)
    rule = lab["rules"][1]
    keys = {*lab, *rule, *rule["items"][0], *rule["items"][1]}
    assert {key for key in keys if not re.search(rf"\b{key}\s*=", script)} == set()
    kinds = set(re.findall(r"'([a-z-]+)'", script)) & set(get_args(ItemKind))
    assert kinds == set(get_args(ItemKind))


def staged() -> Moved:
    return move_in(parse_export(STAGED), EVERYTHING)


def test_a_changed_copy_in_the_working_set_is_a_rule_of_its_own() -> None:
    moved = staged()
    assert moved.active == ("web (2)", "stars", "REST")
    assert moved.working == ("web", "stars", "odd items", "rest (2)", "REST")  # "dummies" could not be moved
    by_name = {rule.name: rule for rule in moved.rules}
    assert by_name["web (2)"].items == {"image": "ESXi-7.0-lab"}
    # The same profile name, another vendor: another profile.
    assert by_name["web"].left_out[0].item == "image: ESXi-7.0-lab-Acme"
    assert "rule 'rest' is called 'rest (2)' here: another one has the name" in moved.changed


def test_names_that_midwife_cannot_have_are_changed_and_told() -> None:
    moved = staged()
    why = "letters, digits and . _ - + only"
    assert f"image profile ESXi 7.0 (lab) of Lab is called 'ESXi-7.0-lab' here: {why}" in moved.changed
    rest = next(rule for rule in moved.rules if rule.name == "REST")
    assert rest.items["configuration"] == "Gr-e-M-2024"
    assert rest.items["location"] == "Berlin%2fNord/new"
    assert "location Berlin%2fNord/new: the folder Europe above the datacenter is not said" in moved.changed


def test_a_star_is_a_star() -> None:
    stars = next(rule for rule in staged().rules if rule.name == "stars")
    assert stars.patterns == ("model==A*", "serial=XY1")


def test_a_rule_that_cannot_be_said_is_left_out_whole() -> None:
    moved = staged()
    (told,) = [one for one in moved.left_out if one.rule == "dummies"]
    assert told.what == "pattern serial=To be filled by O.E.M."
    assert "identifies no machine" in told.why
    assert "dummies" not in {rule.name for rule in moved.rules}


def test_items_that_midwife_does_not_know() -> None:
    odd = next(rule for rule in staged().rules if rule.name == "odd items")
    assert odd.items == {"image": "a"}
    assert [(one.what, one.why) for one in odd.left_out] == [
        ("item thing", "midwife has nothing like VMware.DeployAutomation.Types.Thing"),
        ("folder Europe", "it does not lie in a datacenter"),
        ("image profile b of VMware, Inc.", "the rule has image a already"),
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "model=A*,B*",  # a list with a wildcard: neither form of midwife's says the same
        "ipv4=192.0.2.0/24",
        "vendor!=Acme",
        "label.rack=r7",
        "gateway_mac=00:50:56:12:34:56",
        "vendor=Acme,",
        "ipv4=192.0.2.9-192.0.2.1",
        "nonsense",
    ],
)
def test_patterns_that_are_none_of_auto_deploys(pattern: str) -> None:
    export = Export((), (ExportedRule("r", (pattern,), ()),), ())
    moved = move_in(export, Known())
    assert moved.rules == moved.active == ()
    assert not moved.complete
    assert moved.left_out[0].what == f"pattern {pattern}"


def test_an_image_cannot_have_the_name_of_a_boot_path() -> None:
    export = Export(
        (ExportedRule("r", (), (OldItem("image-profile", "IPXE"), OldItem("host-profile", "…"))),), (), ()
    )
    moved = move_in(export, Known(reserved=RESERVED_IMAGE_NAMES))
    assert [(one.item, one.why) for one in moved.left_out] == [
        ("image: IPXE-image", "there is no image IPXE-image"),
        ("", "no name can be made of it"),
    ]


def changed(**more: Any) -> bytes:
    return json.dumps(json.loads(LAB) | more).encode()


def with_rule(**more: Any) -> bytes:
    rule = {"name": "r", "allHosts": True, "patterns": [], "items": []} | more
    return changed(rules=[{key: value for key, value in rule.items() if value is not ...}])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "absurd numbers"),
        (b"[]", "keys and values are expected"),
        (b"{}", "must come from boot/tools/export-autodeploy.ps1"),
        (changed(version=2), "has format 2, this midwife reads 1"),
        (changed(version="x" * 200), "has format 'xxx"),
        (changed(rules=None), "rules: a list is expected"),
        (changed(rules=[[]] * 10_001), "more than 10000 entries"),
        (changed(active=["web"]), "active[0]: keys and values"),
        (with_rule(name=""), "rules[0].name is empty"),
        (with_rule(name=7), "rules[0].name: a text is expected"),
        (with_rule(name="x" * 5000), "longer than 4096 characters"),
        (with_rule(patterns=..., allHosts=False), "rules[0].patterns is missing"),
        (with_rule(patterns=["mac"]), "must have patterns or allHosts: true, and not both"),
        (with_rule(allHosts=False), "must have patterns or allHosts"),
        (with_rule(allHosts=...), "must have patterns or allHosts"),
        (with_rule(patterns=[1], allHosts=False), "rules[0].patterns[0]: a text"),
        (with_rule(items=[{"kind": "pet", "name": "n"}]), "'pet' is no kind of item"),
        (with_rule(items=[{"kind": "folder", "name": "n", "path": ["Lab"]}]), "items[0].path[0]: keys and"),
        (LAB.replace(b"old servers", b"\\ud800"), "half a character"),
        (b" " * (17 << 20), "more than 16 MiB"),
    ],
)
def test_a_broken_export_is_refused_with_the_place(data: bytes, said: str) -> None:
    with pytest.raises(ExportError) as error:
        parse_export(data)
    assert said in str(error.value)
    assert len(str(error.value)) < 300


# Fuzz: any bytes give a value or ExportError; whatever is read can be moved, and the site's model takes it.

_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _swallow(data: bytes) -> None:
    try:
        export = parse_export(data)
    except ExportError:
        return
    _proved(move_in(export, Known()))


def _proved(moved: Moved) -> None:
    names = [rule.name.casefold() for rule in moved.rules]
    assert len(set(names)) == len(names)
    assert {*moved.active, *moved.working} <= {rule.name for rule in moved.rules}
    for rule in moved.rules:
        Rule(
            name=rule.name, patterns=rule.patterns or "all", items=Items(**rule.items)
        )  # raises if it is illegal


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    _swallow(data)


@given(st.sampled_from([LAB, STAGED]), st.data())
def test_valid_exports_with_a_few_bytes_changed(whole: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 8))
    _swallow(whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + length :])


@given(st.data(), _json)
def test_valid_exports_with_a_value_of_another_kind(data: st.DataObject, value: Any) -> None:
    whole = json.loads(STAGED)
    spot: Any = whole
    while True:
        key = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else range(len(spot))))
        if not isinstance(spot[key], dict | list) or not spot[key] or data.draw(st.booleans()):
            spot[key] = value
            break
        spot = spot[key]
    _swallow(json.dumps(whole).encode())


_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
_items = st.builds(
    OldItem,
    st.sampled_from(["image-profile", "host-profile", "script-bundle", "cluster", "unknown"]),
    _names,
    st.sampled_from(["", "Lab", "LAB"]),
    st.lists(st.tuples(st.sampled_from(["datacenter", "folder"]), _names), max_size=3).map(tuple),
)


@given(
    st.lists(
        st.builds(ExportedRule, _names, st.just(()), st.lists(_items, max_size=4).map(tuple)), max_size=6
    )
)
def test_whatever_the_names_the_site_can_have_them(rules: list[ExportedRule]) -> None:
    lacking = move_in(Export(tuple(rules), tuple(rules), ()), Known())
    _proved(lacking)
    # Once the site has everything that was asked for, it is moved in, under the names that were told.
    asked = [one.item.partition(": ") for one in lacking.left_out if one.item]
    have = {kind: frozenset(name for k, _, name in asked if k == kind) for kind in ("image", "configuration")}
    moved = move_in(Export(tuple(rules), tuple(rules), ()), Known(have["image"], have["configuration"]))
    _proved(moved)
    assert not [one for one in moved.left_out if one.item.startswith(("image: ", "configuration: "))]


# The same hosts get the same: a reference matcher for Auto Deploy's help, against midwife's on the moved rules.

_VALUES = {
    "vendor": ["Dell Inc.", "HP", "A*", "what?"],
    "model": ["R630", "R630, rev. 2", "A*", "AB"],
    "ipv4": ["192.0.2.1", "192.0.2.5", "192.0.2.9"],
    "serial": ["XY1", "XY2"],
}
_patterns = st.one_of(
    *(
        st.lists(st.sampled_from([v for v in values if "," not in v]), min_size=1, max_size=2).map(
            lambda some, name=name: f"{name}={','.join(some)}"
        )
        for name, values in _VALUES.items()
    ),
    st.sampled_from(_VALUES["model"]).map("model=={}".format),
    st.sampled_from(["ipv4=192.0.2.1-192.0.2.5", "ipv4=192.0.2.4-192.0.2.9,192.0.2.1"]),
)
_machines = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in _VALUES.items()})


def _reference(rules: list[ExportedRule], machine: Mapping[str, str]) -> dict[str, str]:
    """Attributes are all known here. First match per type of item wins."""
    items: dict[str, str] = {}
    for rule in rules:
        if all(_fits(pattern, machine) for pattern in rule.patterns):
            for item in rule.items:
                items.setdefault(item.kind, item.name)
    return items


def _fits(pattern: str, machine: Mapping[str, str]) -> bool:
    name, _, rest = pattern.partition("=")
    if rest.startswith("="):
        return machine[name] == rest[1:]
    for value in rest.split(","):
        first, dash, last = value.partition("-")
        if machine[name] == value:
            return True
        if name == "ipv4" and dash:
            ends = [int(ipaddress.IPv4Address(text)) for text in (first, machine[name], last)]
            if ends == sorted(ends):
                return True
    return False


@given(
    st.lists(
        st.builds(
            ExportedRule,
            st.sampled_from(["a", "A", "b", ".c"]),
            st.lists(_patterns, max_size=2).map(tuple),
            st.lists(
                st.builds(
                    OldItem, st.sampled_from(["image-profile", "host-profile"]), st.sampled_from("xyz")
                ),
                max_size=2,
                unique_by=lambda item: item.kind,
            ).map(tuple),
        ),
        max_size=6,
        unique=True,
    ),
    _machines,
)
def test_the_same_hosts_get_the_same(rules: list[ExportedRule], machine: dict[str, str]) -> None:
    known = Known(images=frozenset("xyz"), configurations=frozenset("xyz"))
    moved = move_in(Export(tuple(rules), tuple(rules), tuple(rules)), known)
    if not moved.complete:  # a list with a star in it: told, and the active set does not become ours
        assert any("*" in p or "?" in p for rule in rules for p in rule.patterns if "," in p)
        return
    by_name = {rule.name: rule for rule in moved.rules}
    ours = [
        SimpleNamespace(
            name=name,
            patterns=by_name[name].patterns,
            items=SimpleNamespace(given=lambda name=name: by_name[name].items),
        )
        for name in moved.active
    ]
    got = evaluate(ours, {name: (value,) for name, value in machine.items()}).items
    kinds = {"image-profile": "image", "host-profile": "configuration"}
    expected = {kinds[kind]: value for kind, value in _reference(rules, machine).items()}
    assert {kind: given.value for kind, given in got.items()} == expected


def test_moved_patterns_are_still_auto_deploys() -> None:
    for rule in move_in(parse_export(LAB), EVERYTHING).rules:
        assert not any(parse_pattern(pattern).extension for pattern in rule.patterns)


@pytest.mark.parametrize("name", [" ", "Lab ", ""])
def test_a_location_that_the_site_could_not_say_is_left_out(name: str) -> None:
    place = OldItem("cluster", "C", "", (("datacenter", name),))
    moved = move_in(Export((ExportedRule("r", (), (place,)),), (), ()), Known())
    _proved(moved)
    assert [rule.items for rule in moved.rules] == [{}]
    assert "begins or ends with a blank" in moved.left_out[0].why
