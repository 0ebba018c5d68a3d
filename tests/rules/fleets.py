"""Machines and rules of small fleets, by hand and by chance."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st

from midwife.site.model import Items, Rule

VENDORS = ("HPE", "Dell Inc.", "Acme")


@dataclass(frozen=True, slots=True)
class Machine:
    """One of a fleet."""

    name: str
    attributes: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, str] = field(default_factory=dict)


def machine(name: str, fixed: Mapping[str, str] | None = None, **attributes: str) -> Machine:
    """``label__rack`` stands for ``label.rack``; "" for a fact that it was asked for and does not have."""
    known = {key.replace("__", "."): (text,) if text else () for key, text in attributes.items()}
    return Machine(name, known, fixed or {})


def rule(name: str, *patterns: str, **items: str) -> Rule:
    """``script_bundle`` and all the other items by name."""
    return Rule(name=name, patterns=patterns, items=Items(**items))  # type: ignore[arg-type]


PATTERNS = st.one_of(
    st.builds("vendor={}".format, st.sampled_from(VENDORS)),
    st.builds("vendor!={}".format, st.sampled_from(VENDORS)),
    st.builds("serial={}".format, st.sampled_from("abc")),
    st.builds("ipv4=192.0.2.{}".format, st.sampled_from(["1", "1-192.0.2.3", "0/30"])),
    st.sampled_from(["vendor=*e*", "label.rack=r1", "oemstring==a,b"]),
)
RULES = st.lists(
    st.tuples(
        st.lists(PATTERNS, max_size=2).map(tuple),
        st.builds(
            Items,
            image=st.none() | st.sampled_from(["one", "two"]),
            configuration=st.none() | st.sampled_from(["base", "full"]),
            boot=st.none() | st.sampled_from(["install", "local"]),
        ),
    ),
    max_size=8,
).map(lambda parts: [Rule(name=f"r{n}", patterns=p, items=i) for n, (p, i) in enumerate(parts)])
_FACTS: dict[str, st.SearchStrategy[tuple[str, ...]]] = {
    "vendor": st.sampled_from([("HPE",), (" dell inc. ",), ("other",)]),
    "serial": st.sampled_from([("a",), ("B",), ("x",)]),
    "ipv4": st.sampled_from([("192.0.2.1",), ("192.0.2.3",), ("192.0.2.9",)]),
    "oemstring": st.sampled_from([("a,b",), ("c", "A,B")]),
    "label.rack": st.just(("R1",)),
}
ATTRIBUTES = st.fixed_dictionaries({}, optional=_FACTS)
FIXED = st.sampled_from([{}, {}, {"image": "own"}, {"boot": "local"}])
FLEETS = st.lists(st.tuples(ATTRIBUTES, FIXED), min_size=1, max_size=6).map(
    lambda parts: [Machine(f"m{n}", attributes, fixed) for n, (attributes, fixed) in enumerate(parts)]
)


@st.composite
def completed(draw: st.DrawFn, known: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """These facts, and some value for all that were not known."""
    return {
        name: known.get(name) or draw(values) for name, values in _FACTS.items() if name != "label.rack"
    } | {name: values for name, values in known.items() if name == "label.rack"}
