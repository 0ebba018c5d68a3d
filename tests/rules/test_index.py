"""The index against the plain walk, and both against a reference written from the documentation's words."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.rules import index as rule_index
from midwife.rules.index import RuleIndex
from midwife.rules.match import Given, evaluate
from midwife.rules.patterns import Outcome, judge, parse_pattern
from midwife.site.model import Items, Rule

_VENDORS = ("HPE", "Dell Inc.", "Acme")
_ADDRESSES = tuple(f"192.0.2.{number}" for number in range(1, 9))
_UUIDS = ("4c4c4544-0035-5210-8050-b4c04f4d3233", "44454c4c-3500-1052-8050-b4c04f4d3233")
_PATTERNS = st.one_of(
    st.builds("vendor={}".format, st.lists(st.sampled_from(_VENDORS), min_size=1, max_size=2).map(",".join)),
    st.builds("vendor!={}".format, st.sampled_from(_VENDORS)),
    st.sampled_from(
        ["vendor=*e*", "vendor=Dell*", "ipv4=192.0.2.0/29", "ipv4=192.0.2.4/30", "label.rack=r1"]
    ),
    st.builds("oemstring={}".format, st.sampled_from("abc")),
    st.builds("uuid={}".format, st.sampled_from(_UUIDS)),
    st.tuples(st.sampled_from(_ADDRESSES), st.sampled_from(_ADDRESSES)).map(
        lambda pair: f"ipv4={min(pair)}-{max(pair)},{pair[0]}"
    ),
    st.builds("ipv4={}".format, st.sampled_from(_ADDRESSES)),
)
_ITEMS = st.builds(
    Items,
    image=st.none() | st.sampled_from(["one", "two"]),
    configuration=st.none() | st.sampled_from(["base", "full"]),
    boot=st.none() | st.sampled_from(["install", "stateless"]),
)
_PATTERN_LISTS = st.lists(_PATTERNS, max_size=3).map(tuple)
_RULES = st.lists(st.tuples(_PATTERN_LISTS, _ITEMS), max_size=12).map(
    lambda parts: [Rule(name=f"r{n}", patterns=p, items=i) for n, (p, i) in enumerate(parts)]
)
_MACHINES = st.fixed_dictionaries(
    {},
    optional={
        "vendor": st.sampled_from([("HPE",), (" dell inc. ",), ("",), ("other",)]),
        "oemstring": st.lists(st.sampled_from("abcd"), max_size=3).map(tuple),
        "ipv4": st.sampled_from([(address,) for address in _ADDRESSES] + [("nonsense",)]),
        "uuid": st.sampled_from([(_UUIDS[0],), (_UUIDS[1].upper(),)]),
        "label.rack": st.sampled_from([("R1",), ("r2",)]),
    },
)


def reference(
    rules: Sequence[Rule], machine: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Given], set[str]]:
    """Lower index first; all patterns required; per item type the first match wins; unknown is neither."""
    items: dict[str, Given] = {}
    unknown: set[str] = set()
    for rule in rules:
        patterns = [parse_pattern(text) for text in rule.patterns]
        said = {pattern: judge(pattern, machine).outcome for pattern in patterns}
        open_types = rule.items.given().keys() - items.keys()
        if Outcome.NO_MATCH in said.values() or not open_types:
            continue
        missing = {pattern.attribute for pattern, outcome in said.items() if outcome is Outcome.UNKNOWN}
        unknown |= missing
        if not missing:
            items |= {kind: Given(rule.items.given()[kind], rule.name) for kind in open_types}
    return items, unknown


@given(_RULES, st.lists(_MACHINES, min_size=1, max_size=5))
def test_index_walk_and_reference_agree(
    rules: list[Rule], machines: list[dict[str, tuple[str, ...]]]
) -> None:
    index = RuleIndex(rules)
    for machine in machines:
        items, unknown = reference(rules, machine)
        walked, looked_up = evaluate(rules, machine), index.evaluate(machine)
        assert looked_up.items == walked.items == items
        assert looked_up.unknown == walked.unknown
        assert set(walked.unknown) == unknown


def test_a_thousand_rules_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        Rule(
            name=f"mac {n}",
            patterns=(f"mac=52:54:00:00:{n // 256:02x}:{n % 256:02x}",),
            items=Items(image=f"i{n}"),
        )
        for n in range(1000)
    ]
    rules += [
        Rule(
            name=f"net {n}", patterns=(f"ipv4=10.0.{n % 250}.{n // 250}",), items=Items(configuration=f"c{n}")
        )
        for n in range(1000)
    ]
    rules += [Rule(name="rest", patterns=(), items=Items(image="default"))]
    index = RuleIndex(rules)
    judged: list[str] = []
    real = rule_index.outcome
    monkeypatch.setattr(
        rule_index, "outcome", lambda pattern, facts: judged.append(pattern.text) or real(pattern, facts)
    )
    found = index.evaluate({"mac": ("52:54:00:00:03:e7",), "ipv4": ("10.0.7.1",)})
    assert found.items["image"] == Given("i999", "mac 999")
    assert found.items["configuration"] == Given("c257", "net 257")
    assert judged == ["mac=52:54:00:00:03:e7", "ipv4=10.0.7.1"]


def test_ranges_in_heaps_are_walked_and_right() -> None:
    rules = [
        Rule(
            name=f"r{n}", patterns=(f"ipv4=10.0.0.0-10.{n % 256}.{n // 256}.255",), items=Items(image=f"i{n}")
        )
        for n in range(1, 400)
    ]
    machine = {"ipv4": ("10.120.0.1",)}
    assert RuleIndex(rules).evaluate(machine).items == evaluate(rules, machine).items
