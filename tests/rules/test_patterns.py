"""Auto Deploy's patterns, as the help of New-DeployRule describes them, and what midwife adds: reasons."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.facts import Facts
from midwife.rules.attributes import ATTRIBUTES
from midwife.rules.patterns import Outcome, PatternError, implies, judge, parse_pattern

R730 = Facts(
    macs=("52:54:00:12:34:56", "52:54:00:12:34:57"),
    uuid="4c4c4544-0035-5210-8050-b4c04f4d3233",
    serial="5R52P23",
    asset="LAB-0042",
    vendor="Dell Inc.",
    model="PowerEdge R730 ",
    family="PowerEdge",
    oemstrings=("Dell System", "$SPT:esx,lab"),
    hostname="esx-01",
    domain="lab.example",
    ipv4="192.0.2.10",
    ipv6="2001:db8::10",
).attributes() | {"label.rack": ("R7",)}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        # One of several values.
        ("vendor=Dell Inc.", Outcome.MATCH),
        ("vendor=HPE,Dell Inc.", Outcome.MATCH),
        ("vendor=HPE, Dell Inc.", Outcome.MATCH),
        ("vendor=HPE,Lenovo", Outcome.NO_MATCH),
        # Exact strings: no prefix.
        ("vendor=Dell", Outcome.NO_MATCH),
        # midwife's own: wildcards, but not after ==.
        ("vendor=Dell*", Outcome.MATCH),
        ("vendor==Dell*", Outcome.NO_MATCH),
        ("model=PowerEdge R?30", Outcome.MATCH),
        ("model=PowerEdge R?", Outcome.NO_MATCH),
        ("model=*r7*", Outcome.MATCH),
        ("serial=5R*", Outcome.MATCH),
        # midwife's own: not.
        ("vendor!=HPE,Lenovo", Outcome.MATCH),
        ("vendor!=HPE,Dell Inc.", Outcome.NO_MATCH),
        ("vendor != dell*", Outcome.NO_MATCH),
        ("mac!=52:54:00:12:34:57", Outcome.NO_MATCH),
        ("ipv4!=192.0.2.10-192.0.2.20", Outcome.NO_MATCH),
        # midwife's own: networks, ranges of IPv6 addresses, labels.
        ("ipv4=192.0.2.0/24", Outcome.MATCH),
        ("ipv4=198.51.100.0/24,192.0.2.8/30", Outcome.MATCH),
        ("ipv4=192.0.2.0/29", Outcome.NO_MATCH),
        ("ipv6=2001:db8::/64", Outcome.MATCH),
        ("ipv6=2001:db8::1-2001:db8::f", Outcome.NO_MATCH),
        ("ipv6=2001:db8::1-2001:db8::10", Outcome.MATCH),
        ("label.rack=r7", Outcome.MATCH),
        ("label.rack!=r8", Outcome.MATCH),
        ("label.rack=r8", Outcome.NO_MATCH),
        # What a host has no label for is not unknown: nobody else could tell.
        ("label.row=1", Outcome.NO_MATCH),
        ("label.row!=1", Outcome.MATCH),
        # Case and blanks at the ends do not count: SMBIOS strings vary in both.
        ("VENDOR=dell inc.", Outcome.MATCH),
        ("model=poweredge r730", Outcome.MATCH),
        # == takes the comma as part of the value.
        ("oemstring==$SPT:esx,lab", Outcome.MATCH),
        ("oemstring=$SPT:esx,lab", Outcome.NO_MATCH),
        ("oemstring==Dell System,x", Outcome.NO_MATCH),
        # Any of several OEM strings or MAC addresses.
        ("oemstring=Dell System", Outcome.MATCH),
        ("mac=52-54-00-12-34-57", Outcome.MATCH),
        ("mac=5254.0012.3456", Outcome.MATCH),
        ("mac=52:54:00:12:34:58", Outcome.NO_MATCH),
        # Addresses: single, range with both ends, several ranges.
        ("ipv4=192.0.2.10", Outcome.MATCH),
        ("ipv4==192.0.2.10", Outcome.MATCH),
        ("ipv4=192.0.2.10-192.0.2.20", Outcome.MATCH),
        ("ipv4=192.0.2.1-192.0.2.10", Outcome.MATCH),
        ("ipv4=192.0.2.11-192.0.2.20", Outcome.NO_MATCH),
        ("ipv4=198.51.100.1-198.51.100.9,192.0.2.9-192.0.2.11", Outcome.MATCH),
        ("ipv6=2001:DB8:0::10", Outcome.MATCH),
        ("ipv6=2001:db8::11", Outcome.NO_MATCH),
        # Firmware and tools disagree on the byte order of UUIDs.
        ("uuid=4C4C4544-0035-5210-8050-B4C04F4D3233", Outcome.MATCH),
        ("uuid=44454c4c-3500-1052-8050-b4c04f4d3233", Outcome.MATCH),
        ("uuid=44454c4c-3500-1052-8050-b4c04f4d3234", Outcome.NO_MATCH),
        ("serial=5r52p23", Outcome.MATCH),
        ("asset=LAB-0042", Outcome.MATCH),
        ("family=PowerEdge", Outcome.MATCH),
        ("hostname=ESX-01", Outcome.MATCH),
        ("domain=lab.example", Outcome.MATCH),
    ],
)
def test_a_server_against_one_pattern(pattern: str, expected: Outcome) -> None:
    verdict = judge(parse_pattern(pattern), R730)
    assert verdict.outcome is expected, verdict.reason


def test_a_fact_that_is_missing_is_neither_yes_nor_no() -> None:
    verdict = judge(parse_pattern("domain=lab.example"), Facts(macs=("52:54:00:12:34:56",)).attributes())
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason == "its domain is not known, domain=lab.example cannot be tested"


def test_a_miss_says_what_it_is_and_what_it_should_be() -> None:
    verdict = judge(parse_pattern("vendor=HPE,Lenovo"), R730)
    assert verdict.reason == "its vendor is Dell Inc., not HPE or Lenovo"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("vendor", "'vendor' is not a pattern"),
        ("", "'' is not a pattern"),
        ("gateway_mac=52:54:00:12:34:56", "'gateway_mac' is not an attribute; there are asset, domain"),
        ("=x", "'' is not an attribute"),
        ("vendor=", "empty value"),
        ("vendor==", "empty value"),
        ("vendor=HPE,,Dell", "empty value"),
        ("ipv4=192.0.2.20-192.0.2.10", "runs backwards; write 192.0.2.10-192.0.2.20"),
        ("ipv4=2001:db8::1", "it is IPv6, use ipv6="),
        ("ipv4=192.0.2.0/33", "is not a network"),
        ("ipv4=192.0.2.1/24", "write 192.0.2.0/24"),
        ("ipv4==192.0.2.0/24", "not an IPv4 address or range"),
        ("label.=x", "'label.' is not an attribute"),
        ("label.a b=x", "is not an attribute"),
        ("vendor!", "is not a pattern"),
        ("vendor!=", "empty value"),
        ("ipv4=192.0.2.1-", "not an IPv4 address or range"),
        ("ipv4==192.0.2.1-192.0.2.9", "not an IPv4 address or range"),
        ("ipv6=192.0.2.1", "is not an IPv6 address"),
        ("mac=52:54", "is not a MAC address"),
        ("uuid=4c4c4544", "is not a UUID"),
        ("uuid=00000000-0000-0000-0000-000000000000", "in place of a real value"),
        ("serial=To Be Filled By O.E.M.", "in place of a real value"),
    ],
)
def test_what_is_no_pattern_says_why(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse_pattern(pattern)
    assert reason in str(caught.value)


@given(st.text() | st.builds("{}={}".format, st.sampled_from([*ATTRIBUTES, "label.rack"]), st.text()))
def test_any_text_is_a_pattern_or_a_pattern_error(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except PatternError:
        return
    assert pattern.values
    # Of a machine of which nothing is known only this is known: which labels it has not.
    assert (judge(pattern, {}).outcome is Outcome.UNKNOWN) is not pattern.attribute.startswith("label.")


@given(st.sampled_from([*ATTRIBUTES, "label.rack"]), st.text(), st.text())
def test_any_fact_can_be_judged(attribute: str, wanted: str, value: str) -> None:
    try:
        pattern = parse_pattern(f"{attribute}=={wanted}")
    except PatternError:
        return
    assert judge(pattern, {attribute: (value,)}).reason


_ADDRESSES = st.ip_addresses(v=4).map(int)


@given(_ADDRESSES, _ADDRESSES, _ADDRESSES)
def test_a_range_holds_exactly_the_addresses_between_its_ends(one: int, other: int, asked: int) -> None:
    first, last = sorted((one, other))
    text = f"ipv4={ipaddress.IPv4Address(first)}-{ipaddress.IPv4Address(last)}"
    verdict = judge(parse_pattern(text), {"ipv4": (str(ipaddress.IPv4Address(asked)),)})
    assert (verdict.outcome is Outcome.MATCH) == (first <= asked <= last)


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        ("vendor=Dell Inc.", "vendor=HPE,dell inc.", True),
        ("vendor=HPE,Dell Inc.", "vendor=HPE", False),
        ("vendor=HPE", "model=HPE", False),
        ("ipv4=192.0.2.5", "ipv4=192.0.2.1-192.0.2.9", True),
        ("ipv4=192.0.2.5-192.0.2.7", "ipv4=192.0.2.1-192.0.2.9", True),
        ("ipv4=192.0.2.5-192.0.2.17", "ipv4=192.0.2.1-192.0.2.9", False),
        ("ipv4=192.0.2.5-192.0.2.5", "ipv4=192.0.2.5", True),
        ("ipv4=192.0.2.5-192.0.2.6", "ipv4=192.0.2.5", False),
        ("ipv4=192.0.2.8/30", "ipv4=192.0.2.0/24", True),
        ("ipv6=2001:db8::1", "ipv6=2001:db8::/32", True),
        ("vendor=Dell Inc.", "vendor=dell*", True),
        ("vendor=Dell Inc*", "vendor=dell*", True),
        ("vendor=*dell*", "vendor=dell*", False),
        ("vendor=d?ll", "vendor=dell*", False),
        ("vendor=HPE", "vendor!=Dell Inc.", True),
        ("vendor=HPE,Dell Inc.", "vendor!=Dell Inc.", False),
        ("vendor=HP*", "vendor!=Dell Inc.", False),
        # Somebody with two MAC addresses has the one and the other.
        ("mac=52:54:00:12:34:56", "mac!=52:54:00:12:34:57", False),
        ("vendor!=HPE,Dell Inc.", "vendor!=HPE", True),
        ("vendor!=HPE", "vendor!=HPE,Dell Inc.", False),
        ("vendor!=HPE", "vendor=Dell Inc.", False),
    ],
)
def test_one_pattern_implies_another(narrow: str, wide: str, expected: bool) -> None:
    assert implies(parse_pattern(narrow), parse_pattern(wide)) is expected


_VALUES = ("a", "ab", "abc", "b", "a*", "ab*", "*b", "a?", "*")
_TEXTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["vendor", "oemstring", "label.rack"]),
    st.sampled_from(["=", "!="]),
    st.lists(st.sampled_from(_VALUES), min_size=1, max_size=3).map(",".join),
)


@given(_TEXTS, _TEXTS, st.lists(st.sampled_from(["a", "ab", "abc", "b", "ba"]), max_size=2))
def test_what_is_implied_is_never_wrong(narrow: str, wide: str, facts: list[str]) -> None:
    one, other = parse_pattern(narrow), parse_pattern(wide)
    machine = {one.attribute: tuple(facts if one.attribute == "oemstring" else facts[:1])}
    if implies(one, other) and judge(one, machine).outcome is Outcome.MATCH:
        assert judge(other, machine).outcome is Outcome.MATCH


@pytest.mark.parametrize(
    ("pattern", "extension"),
    [
        ("vendor=Dell Inc.", False),
        ("ipv4=192.0.2.1-192.0.2.9", False),
        ("oemstring==a*", False),
        ("ipv4=192.0.2.0/24", True),
        ("ipv6=2001:db8::1-2001:db8::2", True),
        ("model=R*", True),
        ("model!=R730", True),
        ("label.rack=r7", True),
        ("family=PowerEdge", True),
    ],
)
def test_what_auto_deploy_would_refuse_is_known(pattern: str, extension: bool) -> None:
    assert parse_pattern(pattern).extension is extension
